//! Opening, and which errors are certain. What a bucket must do is in `conformance`.

use std::sync::Arc;
use std::time::SystemTime;

use super::settings::{AccessKey, Secret};
use super::{BucketSettings, BucketUrl, OpenError, brief, open};
use crate::store::{ObjectKey, ObjectStore, StoreError};

fn settings() -> BucketSettings {
    let mut settings = BucketSettings::new(Arc::new(|| SystemTime::UNIX_EPOCH));
    settings.access_key = Some(AccessKey {
        id: "id".to_owned(),
        secret: Secret("hunter2".to_owned()),
        session_token: Some(Secret("hunter3".to_owned())),
    });
    settings.region = Some("us-east-1".to_owned());
    settings
}

async fn unreachable() -> Arc<dyn ObjectStore> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let settings = BucketSettings {
        endpoint: Some(format!("http://{address}")),
        ..settings()
    };
    open(&"s3://flights/a".parse().unwrap(), settings).await.unwrap()
}

#[tokio::test]
async fn a_put_that_never_reached_a_server_has_certainly_failed() {
    let store = unreachable().await;
    let key = ObjectKey("c/1".to_owned());
    let failed = store.create(&key, vec!["x".into()]).await;
    assert!(matches!(failed, Err(StoreError::Failed { .. })), "{failed:?}");
    let failed = store.read(&key, 0..1).await;
    assert!(matches!(failed, Err(StoreError::Failed { .. })), "{failed:?}");
    let failed = store.list("", None, 1).await;
    assert!(matches!(failed, Err(StoreError::Failed { .. })), "{failed:?}");
}

#[tokio::test]
async fn secrets_are_not_in_settings_or_errors() {
    let settings = settings();
    assert!(!format!("{settings:?} {:?}", settings.access_key).contains("hunter"));
    let store = unreachable().await;
    let failed = store.create(&ObjectKey("c/1".to_owned()), vec![]).await.unwrap_err();
    assert!(!format!("{failed:?} {failed}").contains("hunter"));
}

#[cfg(not(any(feature = "gcp", feature = "azure")))]
#[tokio::test]
async fn what_is_not_built_in_says_how_to_get_it() {
    for (url, name) in [("gs://flights", "gcp"), ("az://flights", "azure")] {
        let url: BucketUrl = url.parse().unwrap();
        let Err(refused) = open(&url, settings()).await else {
            panic!("{url} was opened")
        };
        assert!(matches!(refused, OpenError::NotBuilt { feature, .. } if feature == name));
    }
}

#[tokio::test]
async fn local_stores_need_no_credentials() {
    let dir = tempfile::tempdir().unwrap();
    let urls = [
        format!("file://{}", dir.path().join("bucket").display()),
        "memory:".to_owned(),
    ];
    for url in urls {
        let settings = BucketSettings::new(Arc::new(|| SystemTime::UNIX_EPOCH));
        let store = open(&url.parse().unwrap(), settings).await.unwrap();
        store
            .create(&ObjectKey("a".to_owned()), vec!["b".into()])
            .await
            .unwrap();
        assert_eq!(store.read(&ObjectKey("a".to_owned()), 0..1).await.unwrap(), "b");
    }
}

#[test]
fn a_page_of_xml_becomes_one_line() {
    let generic = |text: &str| super::Error::Generic {
        store: "S3",
        source: text.into(),
    };
    let page = "Error performing PUT http://h/b/k in 1ms - Server returned non-2xx status code: 403 Forbidden: <?xml?>\n\
        <Error><Code>SignatureDoesNotMatch</Code><Message>Check your key.</Message><HostId>32080f</HostId></Error>";
    assert_eq!(brief(&generic(page)), "403 SignatureDoesNotMatch: Check your key.");
    assert_eq!(brief(&generic("a <Code>SlowDown</Code>")), "error SlowDown");
    assert_eq!(
        brief(&generic("connection refused")),
        "Generic S3 error: connection refused"
    );
}

#[tokio::test]
async fn an_endpoint_that_is_no_url_is_refused_and_not_repeated() {
    for endpoint in [
        "127.0.0.1:9000",
        "minio",
        "ftp://h",
        "http://",
        "http://id:hunter2@h",
        "http://h?a=hunter2",
        "http://h:99999",
    ] {
        let settings = BucketSettings {
            endpoint: Some(endpoint.to_owned()),
            ..settings()
        };
        let Err(refused) = open(&"s3://flights".parse().unwrap(), settings).await else {
            panic!("{endpoint} was taken");
        };
        assert!(matches!(refused, OpenError::Configuration(_)), "{endpoint}: {refused}");
        assert!(!refused.to_string().contains("hunter2"));
    }
}
