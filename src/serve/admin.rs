//! The admin listener.

use std::sync::Arc;

use axum::Router;

use super::App;

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
}

pub(super) fn label(_path: &str) -> &'static str {
    "other"
}
