//! The forward-auth door.

use std::sync::Arc;

use axum::Router;

use super::App;

pub(super) const PREFIX: &str = "/auth/";
pub(super) const LABEL: &str = "forward_auth";

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
}
