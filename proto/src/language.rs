//! Sentences in two languages.
//!
//! English is written where it is said. A [`Catalogue`] has the Chinese of each such sentence, found by the English
//! one with holes for what varies. Owns the finding; each program owns its catalogue, and a test that nothing it says
//! is missing there.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What people are spoken to in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Language {
    /// `en`
    #[default]
    #[serde(rename = "en")]
    English,
    /// `zh`
    #[serde(rename = "zh")]
    Chinese,
}

/// A word that is no language of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be en or zh")]
pub struct LanguageError;

impl FromStr for Language {
    type Err = LanguageError;
    fn from_str(text: &str) -> Result<Self, LanguageError> {
        match text {
            "en" => Ok(Self::English),
            "zh" => Ok(Self::Chinese),
            _ => Err(LanguageError),
        }
    }
}

impl Language {
    /// That of a locale such as `zh_CN.UTF-8`; English for all that is not Chinese.
    ///
    /// ```
    /// use forest_proto::language::Language;
    /// assert_eq!(Language::of_locale("zh_CN.UTF-8"), Language::Chinese);
    /// assert_eq!(Language::of_locale("C.UTF-8"), Language::English);
    /// ```
    #[must_use]
    pub fn of_locale(locale: &str) -> Self {
        match locale.split(['_', '-', '.', '@']).next() {
            Some("zh") => Self::Chinese,
            _ => Self::English,
        }
    }
}

/// English sentences, with `{}` for what varies, and their Chinese, with `{0}`, `{1}`, ... for the same in whatever
/// order. What fills a hole is rendered too, if it is itself a sentence of the catalogue.
///
/// ```
/// use forest_proto::language::Catalogue;
/// let catalogue = Catalogue::new(&[("no {} {}", "{0} {1} 不存在"), ("job", "任务")]);
/// assert_eq!(catalogue.chinese("no job \"7\"").as_deref(), Some("任务 \"7\" 不存在"));
/// assert_eq!(catalogue.chinese("anything else"), None);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Catalogue(&'static [(&'static str, &'static str)]);

/// Sentences within sentences; nobody nests more.
const DEPTH: u32 = 4;

impl Catalogue {
    /// Of these pairs. Their order means nothing: of several that fit, the one that says most itself is taken.
    #[must_use]
    pub const fn new(pairs: &'static [(&'static str, &'static str)]) -> Self {
        Self(pairs)
    }

    /// The Chinese of an English sentence, `None` if there is none.
    #[must_use]
    pub fn chinese(&self, english: &str) -> Option<String> {
        self.render(english, DEPTH)
    }

    /// All pairs, for tests that look whether something is missing.
    #[must_use]
    pub fn pairs(&self) -> &'static [(&'static str, &'static str)] {
        self.0
    }

    fn render(&self, english: &str, depth: u32) -> Option<String> {
        let fitting =
            self.0.iter().filter_map(|(form, chinese)| Some((form, chinese, holes(form, english)?)));
        let (_, chinese, found) =
            fitting.max_by_key(|(form, ..)| form.len() - 2 * form.matches("{}").count())?;
        let mut text = String::new();
        let mut rest = *chinese;
        while let Some((before, after)) = rest.split_once('{') {
            text.push_str(before);
            let (number, after) = after.split_once('}')?;
            let filling = *found.get(number.parse::<usize>().ok()?)?;
            let rendered = if depth == 0 { None } else { self.render(filling, depth - 1) };
            text.push_str(rendered.as_deref().unwrap_or(filling));
            rest = after;
        }
        text.push_str(rest);
        Some(text)
    }
}

/// What fills the holes of a form, if the sentence has that form. A hole is never empty.
fn holes<'a>(form: &str, sentence: &'a str) -> Option<Vec<&'a str>> {
    let mut parts = form.split("{}");
    let mut rest = sentence.strip_prefix(parts.next().unwrap_or_default())?;
    let mut found = Vec::new();
    let parts: Vec<_> = parts.collect();
    for (index, part) in parts.iter().enumerate() {
        let last = index + 1 == parts.len();
        let end = match last {
            true => rest.len().checked_sub(part.len()).filter(|_| rest.ends_with(part))?,
            false => rest.find(part)?,
        };
        if end == 0 {
            return None;
        }
        found.push(&rest[..end]);
        rest = &rest[end + part.len()..];
    }
    rest.is_empty().then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CATALOGUE: Catalogue = Catalogue::new(&[
        ("line {}: {}", "第 {0} 行：{1}"),
        ("{} is not within {} and {}", "{0} 不在 {1} 和 {2} 之间"),
        ("{} is not a day", "{0} 不是日期"),
        ("is required", "必填"),
    ]);

    fn check(english: &str, chinese: &str) {
        assert_eq!(CATALOGUE.chinese(english).as_deref(), Some(chinese), "{english}");
    }

    #[test]
    fn the_form_that_says_most_is_taken_and_holes_are_filled() {
        check("5 is not within 1 and 3", "5 不在 1 和 3 之间");
        check("line 2: \"x\" is not a day", "第 2 行：\"x\" 不是日期");
        check("is required", "必填");
        assert_eq!(CATALOGUE.chinese("is required too"), None);
        assert_eq!(CATALOGUE.chinese(" is not a day"), None, "a hole is never empty");
    }

    #[test]
    fn deep_and_strange_texts_are_rendered_all_the_same() {
        let deep = format!("{}end", "line 1: ".repeat(50));
        assert!(CATALOGUE.chinese(&deep).is_some());
        check("line {0}: {1}", "第 {0} 行：{1}");
        check("任务 is not a day", "任务 不是日期");
    }

    #[test]
    fn languages_have_names() {
        assert_eq!("zh".parse(), Ok(Language::Chinese));
        assert_eq!("de".parse::<Language>(), Err(LanguageError));
        assert_eq!(Language::of_locale("zh"), Language::Chinese);
        assert_eq!(Language::of_locale(""), Language::English);
    }
}
