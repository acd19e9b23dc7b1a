//! `@every 1h30m`: durations as Go writes them.
//!
//! Owns their grammar and limits. A period is at least one second and at most 366 days.

const PREFIX: &str = "@every";
const MIN_MS: u64 = 1_000;
const MAX_MS: u64 = 366 * 24 * 3600 * 1_000;
const NANOS_PER_MS: u64 = 1_000_000;

const UNITS: &[(&str, u64)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", NANOS_PER_MS),
    ("s", 1_000 * NANOS_PER_MS),
    ("m", 60_000 * NANOS_PER_MS),
    ("h", 3_600_000 * NANOS_PER_MS),
];

/// The duration in `@every <duration>`; `None` if the text is something else.
pub(super) fn duration_text(spec: &str) -> Option<&str> {
    let (word, rest) = spec.split_at_checked(PREFIX.len())?;
    let is_every = word.eq_ignore_ascii_case(PREFIX) && rest.starts_with(|c: char| c.is_ascii_whitespace());
    is_every.then(|| rest.trim_ascii())
}

/// A period in milliseconds that the text states in whole seconds. Fractions are refused: a fire is named
/// by its second.
pub(super) fn parse(text: &str) -> Result<u64, String> {
    let nanos =
        parse_nanos(text).ok_or_else(|| format!("{text:?} is not a duration such as 90s or 1h30m"))?;
    if nanos % (MIN_MS * NANOS_PER_MS) != 0 {
        return Err(format!("{text} is not a whole number of seconds"));
    }
    check(nanos / NANOS_PER_MS)
}

/// As the original does: fractions are cut off, less than a second is a second.
pub(super) fn parse_original(text: &str) -> Result<u64, String> {
    let nanos =
        parse_nanos(text).ok_or_else(|| format!("{text:?} is not a duration such as 90s or 1h30m"))?;
    check((nanos / NANOS_PER_MS / 1_000 * 1_000).max(MIN_MS))
}

/// Refuses a period out of bounds.
pub(super) fn check(period_ms: u64) -> Result<u64, String> {
    match period_ms {
        ..MIN_MS => Err("shorter than 1s".to_owned()),
        MIN_MS..=MAX_MS => Ok(period_ms),
        _ => Err("longer than 366 days".to_owned()),
    }
}

/// The canonical text of a period in whole seconds.
pub(super) fn format(period_ms: u64) -> String {
    let seconds = period_ms / 1_000;
    let parts = [(seconds / 3600, 'h'), (seconds / 60 % 60, 'm'), (seconds % 60, 's')];
    let shown: String = parts.iter().filter(|(n, _)| *n > 0).map(|(n, unit)| format!("{n}{unit}")).collect();
    format!("{PREFIX} {shown}")
}

/// `1h30m`, `1.5h`, `250ms`: one or more numbers, each with its unit. `None`: not that, or out of range.
fn parse_nanos(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(end);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let (_, unit_ns) = UNITS.iter().find(|(name, _)| *name == unit)?;
        total = total.checked_add(multiply(number, *unit_ns)?)?;
        rest = after;
    }
    (!text.is_empty()).then_some(total)
}

/// A decimal number of units, in nanoseconds; what is less than one is cut off.
fn multiply(number: &str, unit_ns: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() + fraction.len() == 0 || !digits(whole) || !digits(fraction) {
        return None;
    }
    let mut nanos = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()?.checked_mul(unit_ns)? };
    let mut scale: u128 = 1;
    let mut part: u128 = 0;
    // Thirteen digits tell the nanoseconds of an hour apart.
    for digit in fraction.bytes().take(13) {
        scale *= 10;
        part = part * 10 + u128::from(digit - b'0');
    }
    nanos = nanos.checked_add(u64::try_from(part * u128::from(unit_ns) / scale).ok()?)?;
    Some(nanos)
}
