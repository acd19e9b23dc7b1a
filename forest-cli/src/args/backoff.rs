//! `--retry-backoff first=10s,max=10m,factor=2,jitter=20`.

use forest_proto::record::RetryBackoff;

use super::duration_ms;

const FORM: &str = "first=10s,max=10m,factor=2,jitter=20";
const HOUR_MS: u64 = 3_600_000;

/// Reads growing delays. Only `first` must be said: no delay is longer than an hour, each is twice the last one, and
/// there is no jitter, if nothing else is said.
pub(super) fn backoff(text: &str) -> Result<RetryBackoff, String> {
    let (mut first_ms, mut max_ms, mut factor_percent, mut jitter_percent) = (None, None, None, None);
    for part in text.split(',') {
        let Some((name, value)) = part.trim().split_once('=') else {
            return Err(format!("{part:?} is not of the form NAME=VALUE, as in {FORM}"));
        };
        let wrong = |why: String| format!("{name}: {value:?} {why}");
        let is_new = match name {
            "first" => first_ms.replace(duration_ms(value).map_err(wrong)?).is_none(),
            "max" => max_ms.replace(duration_ms(value).map_err(wrong)?).is_none(),
            "factor" => factor_percent.replace(hundredths(value).map_err(wrong)?).is_none(),
            "jitter" => jitter_percent.replace(percent(value).map_err(wrong)?).is_none(),
            _ => return Err(format!("{name:?} is none of first, max, factor, jitter")),
        };
        if !is_new {
            return Err(format!("{name} is given twice"));
        }
    }
    let first_ms = first_ms.ok_or_else(|| format!("first is missing, as in {FORM}"))?;
    Ok(RetryBackoff {
        first_ms,
        max_ms: max_ms.unwrap_or(HOUR_MS.max(first_ms)),
        factor_percent: factor_percent.unwrap_or(200),
        jitter_percent: jitter_percent.unwrap_or(0),
    })
}

/// `1.5` is 150.
fn hundredths(text: &str) -> Result<u32, String> {
    let wrong = || "must be a number with at most two places, such as 1.5".to_owned();
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || part.len() > 2 || !digits(whole) || !digits(part) {
        return Err(wrong());
    }
    format!("{whole}{part:0<2}").parse().map_err(|_| wrong())
}

/// `20` and `20%`.
fn percent(text: &str) -> Result<u32, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse().ok().filter(|percent| *percent <= 100);
    number.ok_or_else(|| "must be a percentage from 0 to 100".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_has_its_default() {
        let check = |text: &str, (first_ms, max_ms, factor_percent, jitter_percent)| {
            let expected = RetryBackoff { first_ms, max_ms, factor_percent, jitter_percent };
            assert_eq!(backoff(text), Ok(expected), "{text}");
        };
        check(FORM, (10_000, 600_000, 200, 20));
        check("first=10s", (10_000, HOUR_MS, 200, 0));
        check("first=2h", (2 * HOUR_MS, 2 * HOUR_MS, 200, 0));
        check("jitter=5%, factor=1.5, first=500ms", (500, HOUR_MS, 150, 5));
        check("first=1s,factor=1.05", (1_000, HOUR_MS, 105, 0));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let check = |text: &str, part: &str| {
            let why = backoff(text).expect_err(text);
            assert!(why.contains(part), "{text}: {why}");
        };
        check("", "is not of the form");
        check("10s", "is not of the form");
        check("max=1m", "first is missing");
        check("first=soon", "first: \"soon\" must look like");
        check("first=1s,first=2s", "twice");
        check("first=1s,factor=1.234", "two places");
        check("first=1s,factor=-1", "two places");
        check("first=1s,jitter=101", "0 to 100");
        check("first=1s,last=2s", "none of first, max");
    }
}
