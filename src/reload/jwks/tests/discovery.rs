//! Keys whose place a metadata document tells.

use super::*;

#[tokio::test(start_paused = true)]
async fn metadata_is_believed_for_its_own_time_and_asked_again_when_the_keys_have_moved() {
    let keys = body(&key_set(&["a"]));
    let handler = move |get: &Get| {
        if get.url.as_str() != METADATA_URL {
            return Ok(keys.clone());
        }
        let document = format!(r#"{{"issuer":"{ISSUER}","jwks_uri":"{KEYS_URL}"}}"#);
        Ok(Answer::Body { bytes: document.into_bytes(), etag: None, max_age: Some(HOUR) })
    };
    let source = KeySource::Discovery { url: None, fetch: FetchSettings::default() };
    let mut rig = Rig::with(source, FetchSettings::default(), handler);
    assert_eq!(keys_of(&rig.next().await.change), 1);
    rig.next().await;
    let urls = |rig: &Rig| rig.asked().into_iter().map(|(url, _)| url).collect::<Vec<_>>();
    assert_eq!(urls(&rig), [METADATA_URL, KEYS_URL, KEYS_URL]);

    let moved = "https://idp.example/new";
    let keys = body(&key_set(&["b"]));
    rig.answer(move |get| match get.url.as_str() {
        METADATA_URL => Ok(body(format!(r#"{{"issuer":"{ISSUER}","jwks_uri":"{moved}"}}"#).as_bytes())),
        KEYS_URL => Err(FetchError::Status { status: 404 }),
        _ => Ok(keys.clone()),
    });
    let failed = rig.next().await;
    assert!(failed.health.last_error.unwrap().contains("404"));
    assert_eq!(keys_of(&rig.next().await.change), 1);
    assert_eq!(urls(&rig)[3..], [KEYS_URL, METADATA_URL, moved]);
}

const OAUTH_URL: &str = "https://idp.example/.well-known/oauth-authorization-server";

fn metadata(jwks: &str) -> Answer {
    let document = format!(
        r#"{{"issuer":"{ISSUER}","jwks_uri":"{jwks}","introspection_endpoint":"{ISSUER}/introspect",
            "id_token_signing_alg_values_supported":["RS256"]}}"#
    );
    Answer::Body { bytes: document.into_bytes(), etag: None, max_age: Some(MINUTE) }
}

fn discovering(handler: impl FnMut(&Get) -> Result<Answer, FetchError> + Send + 'static) -> Rig {
    let source = KeySource::Discovery { url: None, fetch: FetchSettings::default() };
    Rig::with(source, FetchSettings::default(), handler)
}

#[tokio::test(start_paused = true)]
async fn the_metadata_of_rfc_8414_is_asked_when_that_of_openid_connect_is_none() {
    let other = br#"{"issuer":"https://other.example","jwks_uri":"https://idp.example/keys"}"#;
    for no in [Err(FetchError::Status { status: 404 }), Ok(body(b"<html>")), Ok(body(other))] {
        let keys = body(&key_set(&["a"]));
        let mut rig = discovering(move |get| match get.url.as_str() {
            METADATA_URL => no.clone(),
            OAUTH_URL => Ok(metadata(KEYS_URL)),
            _ => Ok(keys.clone()),
        });
        let first = rig.next().await;
        assert_eq!(keys_of(&first.change), 1);
        assert_eq!(first.health.introspection_endpoint.as_deref(), Some("https://idp.example/introspect"));
        assert!(first.health.has_no_common_algorithm);
        rig.next().await;
        let urls: Vec<String> = rig.asked().into_iter().map(|(url, _)| url).collect();
        assert_eq!(urls, [METADATA_URL, OAUTH_URL, KEYS_URL, OAUTH_URL, KEYS_URL], "the good one is asked first");
    }
    let mut rig = discovering(|get| match get.url.as_str() {
        METADATA_URL => Err(FetchError::Status { status: 404 }),
        _ => Ok(body(other)),
    });
    let error = rig.next().await.health.last_error.unwrap();
    assert!(error.contains("404") && error.contains("another issuer"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_is_not_asked_for_its_other_document() {
    let mut rig = discovering(is_down);
    rig.next().await;
    assert_eq!(rig.asked().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn keys_are_asked_for_where_they_were_while_the_metadata_cannot_be_had() {
    let keys = body(&key_set(&["a"]));
    let with_metadata = keys.clone();
    let mut rig = discovering(move |get| match get.url.as_str() {
        METADATA_URL => Ok(metadata(KEYS_URL)),
        _ => Ok(with_metadata.clone()),
    });
    rig.next().await;
    rig.answer(move |get| match get.url.as_str() {
        METADATA_URL => Err(FetchError::Status { status: 500 }),
        OAUTH_URL => Err(FetchError::Status { status: 404 }),
        _ => Ok(keys.clone()),
    });
    // The metadata was fresh for a minute.
    tokio::time::sleep(2 * MINUTE).await;
    rig.commands.send(Command::Refresh).await.unwrap();
    let update = rig.next().await;
    assert_eq!((update.health.last_error, update.health.fetches), (None, 2));
    let urls: Vec<String> = rig.asked().into_iter().map(|(url, _)| url).collect();
    assert_eq!(urls[2..], [METADATA_URL, OAUTH_URL, KEYS_URL]);
}
