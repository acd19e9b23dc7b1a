//! Lists come in pages; people ask for so many entries, or for all.

use clap::Args;

use crate::error::Failure;

/// The server gives no more than this at once.
const MAX_PAGE: u32 = 200;

/// How many entries are wanted.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Paging {
    /// At most so many entries.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// All entries, however many.
    #[arg(long, conflicts_with = "limit")]
    all: bool,
}

impl Paging {
    /// All entries.
    pub(crate) const ALL: Self = Self { limit: u32::MAX, all: true };
}

/// The beginning of a list.
pub(crate) struct Listed<T> {
    pub(crate) items: Vec<T>,
    /// Whether there are more than were asked for. `None` if nobody can know.
    pub(crate) more: Option<bool>,
}

impl<T> Listed<T> {
    /// A list that does not come in pages.
    pub(crate) fn whole(items: Vec<T>) -> Self {
        Self { items, more: None }
    }
}

/// Asks for page after page. `page` is given the number of entries wanted and the token of the page, and
/// answers with entries and the next token, empty at the end.
pub(crate) async fn collect<T>(
    paging: Paging,
    mut page: impl AsyncFnMut(u32, String) -> Result<(Vec<T>, String), Failure>,
) -> Result<Listed<T>, Failure> {
    let limit = if paging.all { usize::MAX } else { paging.limit as usize };
    let mut items = Vec::new();
    let mut token = String::new();
    loop {
        let wanted = u32::try_from(limit - items.len()).unwrap_or(MAX_PAGE).min(MAX_PAGE);
        let (entries, next) = page(wanted, token.clone()).await?;
        items.extend(entries);
        let end = next.is_empty();
        if end || items.len() >= limit {
            let more = !end || items.len() > limit;
            items.truncate(limit);
            return Ok(Listed { items, more: Some(more) });
        }
        if next == token {
            return Err(Failure::refused("the server gives the same page again and again"));
        }
        token = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lists 0..total in pages of at most `page_max`, and tells which sizes were asked for.
    async fn numbers(limit: u32, all: bool, total: u32, page_max: u32) -> (Listed<u32>, Vec<u32>) {
        let mut asked = Vec::new();
        let listed = collect(Paging { limit, all }, async |size, token| {
            asked.push(size);
            let from: u32 = token.parse().unwrap_or(0);
            let to = total.min(from + size.min(page_max));
            Ok(((from..to).collect(), if to < total { to.to_string() } else { String::new() }))
        });
        let listed = listed.await.expect("pages");
        (listed, asked)
    }

    #[tokio::test]
    async fn as_many_as_asked_for() {
        let (listed, asked) = numbers(250, false, 1000, 200).await;
        assert_eq!((listed.items, listed.more), ((0..250).collect(), Some(true)));
        assert_eq!(asked, [200, 50]);
    }

    #[tokio::test]
    async fn all_to_the_end() {
        let (listed, asked) = numbers(50, true, 450, 200).await;
        assert_eq!((listed.items, listed.more), ((0..450).collect(), Some(false)));
        assert_eq!(asked, [200, 200, 200]);
    }

    #[tokio::test]
    async fn a_list_that_just_fits_has_no_more() {
        let (listed, _) = numbers(10, false, 10, 3).await;
        assert_eq!((listed.items.len(), listed.more), (10, Some(false)));
    }

    #[tokio::test]
    async fn a_server_that_turns_in_circles_is_noticed() {
        let paging = Paging { limit: 50, all: true };
        let result = collect(paging, async |_, _| Ok((vec![1], "same".to_owned()))).await;
        assert!(result.is_err());
    }
}
