//! Pages: which one is asked for, and how one is answered.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::admin::{Page, PageRequest};

/// Which page.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Paging {
    /// At most so many entries, to 200: 50 unless given, or 0.
    #[param(minimum = 0, maximum = 200)]
    page_size: Option<u32>,
    /// What the last answer said as `next_page_token`; empty or absent at the beginning.
    page_token: Option<String>,
}

impl Paging {
    pub(super) fn size(&self) -> u32 {
        self.page_size.unwrap_or(0)
    }

    pub(super) fn is_first(&self) -> bool {
        self.page_token.as_deref().unwrap_or_default().is_empty()
    }
}

impl From<Paging> for PageRequest {
    fn from(paging: Paging) -> Self {
        Self { size: paging.page_size.unwrap_or(0), token: paging.page_token.unwrap_or_default() }
    }
}

/// A page.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Paged<T> {
    items: Vec<T>,
    /// Where the next page begins; empty at the end.
    next_page_token: String,
}

impl<T> Paged<T> {
    pub(super) fn of<S: Into<T>>(page: Page<S>) -> Self {
        Self { items: page.items.into_iter().map(Into::into).collect(), next_page_token: page.next }
    }

    pub(super) fn all(items: Vec<T>) -> Self {
        Self { items, next_page_token: String::new() }
    }
}
