//! Encryption and authentication, against servers that insist on them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use esker_metadata::etcd::{EtcdSettings, EtcdStore, EtcdTls, EtcdUser, Secret};
use esker_metadata::store::{KeyRange, MetadataError, MetadataStore, Op, Txn};

use crate::PATIENCE;
use crate::servers::{Cluster, Version};

/// Certificates as `openssl` makes them.
struct Authority {
    directory: PathBuf,
}

/// A certificate and its key, as PEM.
struct Papers {
    certificate: String,
    key: String,
}

impl Authority {
    fn new(directory: &Path, name: &str) -> Self {
        let directory = directory.join(name);
        std::fs::create_dir(&directory).unwrap();
        let this = Self { directory };
        this.openssl("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.pem");
        this
    }

    fn openssl(&self, args: &str) {
        let made = Command::new("openssl")
            .args(args.split(' '))
            .current_dir(&self.directory)
            .output()
            .expect("openssl is installed");
        assert!(
            made.status.success(),
            "openssl {args}: {}",
            String::from_utf8_lossy(&made.stderr)
        );
    }

    fn pem(&self) -> String {
        self.read("ca.pem")
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.directory.join(name)).unwrap()
    }

    fn sign(&self, name: &str) -> Papers {
        let extensions = "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n";
        std::fs::write(self.directory.join("extensions"), extensions).unwrap();
        self.openssl(&format!(
            "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr"
        ));
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -out {name}.pem"
        ));
        Papers {
            certificate: self.read(&format!("{name}.pem")),
            key: self.read(&format!("{name}.key")),
        }
    }
}

fn file(directory: &Path, name: &str, text: &str) -> String {
    let path = directory.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn write() -> Txn {
    Txn {
        then: vec![Op::put("a".into(), "1".into())],
        ..Txn::default()
    }
}

#[tokio::test]
async fn certificates_are_checked_on_both_sides() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path(), "authority");
    let stranger = Authority::new(directory.path(), "stranger");
    let (server, client) = (authority.sign("server"), authority.sign("client"));
    let flags = [
        format!(
            "--cert-file={}",
            file(directory.path(), "server.pem", &server.certificate)
        ),
        format!("--key-file={}", file(directory.path(), "server.key", &server.key)),
        format!(
            "--trusted-ca-file={}",
            file(directory.path(), "ca.pem", &authority.pem())
        ),
        "--client-cert-auth".to_owned(),
    ];
    for version in [Version::V3_4, Version::V3_6] {
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let mut cluster = Cluster::new(version, 1, &flags).encrypted();
        cluster.run(0);
        let with = |authorities: String, identity: Option<&Papers>| EtcdSettings {
            tls: Some(EtcdTls {
                authorities,
                identity: identity.map(|papers| (papers.certificate.clone(), Secret::new(papers.key.clone()))),
                server_name: None,
            }),
            ..cluster.settings("")
        };
        let good = with(authority.pem(), Some(&client));
        let connected = async {
            loop {
                match EtcdStore::connect(good.clone()).await {
                    Ok(store) => return store,
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        };
        let store = tokio::time::timeout(PATIENCE, connected).await.expect("it starts");
        store.txn(write()).await.unwrap();
        let lease = store.grant_lease(Duration::from_secs(2)).await.unwrap();
        assert!(store.keep_alive(lease.id).await.unwrap().is_some());
        for bad in [
            with(authority.pem(), None),
            with(authority.pem(), Some(&stranger.sign("client"))),
            with(stranger.pem(), Some(&client)),
        ] {
            let refused = EtcdStore::lazy(bad).unwrap().txn(write()).await;
            assert!(refused.is_err(), "{refused:?}");
        }
    }
}

#[tokio::test]
async fn users_are_authenticated_and_their_tokens_renewed() {
    for version in [Version::V3_4, Version::V3_6] {
        // Tokens end after two seconds without use.
        let cluster = Cluster::start(version, 1, &["--auth-token-ttl=2"]).await;
        for args in [
            "user add root:toor",
            "user grant-role root root",
            "role add esker",
            "role grant-permission esker --prefix=true readwrite esker/",
            "user add agent:swordfish",
            "user grant-role agent esker",
            "auth enable",
        ] {
            cluster.ctl(&[0], &args.split(' ').collect::<Vec<_>>());
        }
        let with = |prefix: &str, name: &str, password: &str| EtcdSettings {
            user: Some(EtcdUser {
                name: name.to_owned(),
                password: Secret::new(password.to_owned()),
            }),
            ..cluster.settings(prefix)
        };
        let store = EtcdStore::connect(with("esker", "agent", "swordfish")).await.unwrap();
        store.txn(write()).await.unwrap();
        let lease = store.grant_lease(Duration::from_secs(60)).await.unwrap();
        assert!(store.keep_alive(lease.id).await.unwrap().is_some());
        tokio::time::sleep(Duration::from_secs(4)).await;
        store.txn(write()).await.unwrap();
        assert!(store.keep_alive(lease.id).await.unwrap().is_some());
        // Changing a role makes all tokens old.
        cluster.ctl(&[0], &["--user=root:toor", "role", "add", "another"]);
        store.txn(write()).await.unwrap();
        let read = store.snapshot(vec![KeyRange::Key("a".into())]).await.unwrap();
        assert_eq!(read.ranges[0][0].version, 3);
        let wrong = EtcdStore::lazy(with("esker", "agent", "hunter2"))
            .unwrap()
            .txn(write())
            .await;
        let outside = EtcdStore::lazy(with("other", "agent", "swordfish"))
            .unwrap()
            .txn(write())
            .await;
        let nobody = EtcdStore::lazy(cluster.settings("esker")).unwrap().txn(write()).await;
        for refused in [wrong, outside, nobody] {
            let Err(MetadataError::Failed(why)) = refused else {
                panic!("{refused:?}")
            };
            assert!(!why.contains("swordfish") && !why.contains("hunter2"), "{why}");
        }
    }
}
