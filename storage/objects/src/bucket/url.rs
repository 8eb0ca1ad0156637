//! `s3://BUCKET/PREFIX` and its kin: which bucket, said in one word.
//!
//! Owns: what such a word may look like.
//! Does not own: how it is reached (`settings`), opening it (`open`).
//!
//! Invariants: a URL with a user or a query in it is refused without being repeated: people put secrets there.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Most bytes of a prefix: keys are at most 1,024, and ours need some of them.
const PREFIX_BYTES_MAX: usize = 512;

/// Which bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BucketUrl {
    /// `s3://BUCKET[/PREFIX]`: Amazon S3 or anything that speaks its protocol.
    S3(Place),
    /// `gs://BUCKET[/PREFIX]`: Google Cloud Storage.
    Gcs(Place),
    /// `az://CONTAINER[/PREFIX]`: Azure Blob Storage.
    Azure(Place),
    /// `file:///DIR`: a local directory.
    Directory(PathBuf),
    /// `memory:`: gone with the process.
    Memory,
}

/// A bucket and where in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The bucket (or container).
    pub bucket: String,
    /// What all keys begin with, without slashes at its ends; empty for none.
    pub prefix: String,
}

/// Why a text names no bucket.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotABucketUrl {
    /// Another scheme, or none.
    #[error("a store is s3://BUCKET[/PREFIX], gs://BUCKET[/PREFIX], az://CONTAINER[/PREFIX], file:///DIR or memory:")]
    Scheme,
    /// User, password, query or fragment.
    #[error("a store's URL holds no user, password, query or fragment; credentials come from the environment")]
    Extra,
    /// The bucket's name.
    #[error("{0:?} is not the name of a bucket: 3 to 63 letters, digits, hyphens, dots and underscores")]
    Bucket(String),
    /// The prefix.
    #[error("{0:?} is not a prefix: letters, digits, `-`, `_`, `.` and `=` between single slashes, at most 512 in all")]
    Prefix(String),
    /// The directory.
    #[error("file:// needs an absolute path, as in file:///var/lib/esker")]
    Relative,
}

impl FromStr for BucketUrl {
    type Err = NotABucketUrl;

    fn from_str(text: &str) -> Result<Self, NotABucketUrl> {
        if let Some(path) = text.strip_prefix("file://") {
            let path = PathBuf::from(path);
            return if path.is_absolute() {
                Ok(Self::Directory(path))
            } else {
                Err(NotABucketUrl::Relative)
            };
        }
        if text == "memory:" || text == "memory://" {
            return Ok(Self::Memory);
        }
        let (scheme, rest) = text.split_once("://").ok_or(NotABucketUrl::Scheme)?;
        let kind = match scheme {
            "s3" => Self::S3,
            "gs" => Self::Gcs,
            "az" => Self::Azure,
            _ => return Err(NotABucketUrl::Scheme),
        };
        Place::parse(rest).map(kind)
    }
}

impl Place {
    fn parse(rest: &str) -> Result<Self, NotABucketUrl> {
        if rest.contains(['@', ':', '?', '#']) {
            return Err(NotABucketUrl::Extra);
        }
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let named = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        if !(3..=63).contains(&bucket.len()) || !bucket.bytes().all(named) || bucket.starts_with('.') {
            return Err(NotABucketUrl::Bucket(bucket.to_owned()));
        }
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        let fits =
            |part: &str| !matches!(part, "" | "." | "..") && part.bytes().all(|byte| named(byte) || byte == b'=');
        if prefix.len() > PREFIX_BYTES_MAX || !(prefix.is_empty() || prefix.split('/').all(fits)) {
            return Err(NotABucketUrl::Prefix(prefix.to_owned()));
        }
        Ok(Self {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
        })
    }

    fn fmt_as(&self, scheme: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{scheme}://{}", self.bucket)?;
        if self.prefix.is_empty() {
            return Ok(());
        }
        write!(f, "/{}", self.prefix)
    }
}

impl fmt::Display for BucketUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::S3(place) => place.fmt_as("s3", f),
            Self::Gcs(place) => place.fmt_as("gs", f),
            Self::Azure(place) => place.fmt_as("az", f),
            Self::Directory(path) => write!(f, "file://{}", path.display()),
            Self::Memory => f.write_str("memory:"),
        }
    }
}

#[cfg(test)]
mod tests {
    //! What is a bucket and what is not.

    use super::{BucketUrl, NotABucketUrl};

    fn parse(text: &str) -> Result<BucketUrl, NotABucketUrl> {
        text.parse()
    }

    #[test]
    fn what_is_said_is_what_is_shown() {
        for text in [
            "s3://flights",
            "s3://flights/a",
            "s3://my.flights-1/a/b-c/d_e=1",
            "gs://flights/a",
            "az://flights",
            "file:///var/lib/esker",
            "memory:",
        ] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
        assert_eq!(parse("s3://flights/a/"), parse("s3://flights/a"));
        assert_eq!(parse("s3://flights/"), parse("s3://flights"));
    }

    #[test]
    fn what_is_no_bucket_is_refused() {
        for text in ["flights", "http://flights/a", "S3://flights", "", "memory:x", "/tmp"] {
            assert_eq!(parse(text), Err(NotABucketUrl::Scheme), "{text}");
        }
        for text in ["s3://", "s3:///a", "s3://ab", "s3://.abc", "s3://a b c", "s3://flüge"] {
            assert!(matches!(parse(text), Err(NotABucketUrl::Bucket(_))), "{text}");
        }
        for text in [
            "s3://abc//a",
            "s3://abc/a//b",
            "s3://abc/../x",
            "s3://abc/a/.",
            "s3://abc/%20",
            "s3://abc/ü",
        ] {
            assert!(matches!(parse(text), Err(NotABucketUrl::Prefix(_))), "{text}");
        }
        assert_eq!(parse("file://data"), Err(NotABucketUrl::Relative));
    }

    #[test]
    fn a_secret_in_a_url_is_not_repeated() {
        for text in [
            "s3://AKIA:hunter2@flights",
            "s3://flights?secret=hunter2",
            "s3://flights/a#hunter2",
        ] {
            let refused = parse(text).unwrap_err();
            assert!(!format!("{refused} {refused:?}").contains("hunter2"), "{text}");
        }
    }
}
