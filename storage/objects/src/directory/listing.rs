//! Listing a directory tree in the order of its keys.
//!
//! Owns: the walk. It enters only directories that can hold keys in the range asked for, and stops at the limit.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::store::{ObjectKey, ObjectMeta};

/// At most `limit` objects whose keys begin with `prefix` and are greater than `after`, in key order.
pub(super) fn list(root: &Path, prefix: &str, after: Option<&ObjectKey>, limit: usize) -> io::Result<Vec<ObjectMeta>> {
    let mut walk = Walk {
        prefix,
        after: after.map_or("", |key| &key.0),
        limit,
        found: Vec::new(),
    };
    walk.enter(root.to_owned(), "")?;
    Ok(walk.found)
}

struct Walk<'a> {
    prefix: &'a str,
    after: &'a str,
    limit: usize,
    found: Vec<ObjectMeta>,
}

impl Walk<'_> {
    /// Walks one directory, whose keys all begin with `base` (empty, or ending with a slash).
    fn enter(&mut self, directory: PathBuf, base: &str) -> io::Result<()> {
        let mut names = Vec::new();
        match fs::read_dir(&directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
            Ok(entries) => {
                for entry in entries {
                    let entry = entry?;
                    let Ok(name) = entry.file_name().into_string() else {
                        continue;
                    };
                    // With the slash at its end a directory sorts among files as its keys do.
                    let name = if entry.file_type()?.is_dir() {
                        format!("{base}{name}/")
                    } else {
                        format!("{base}{name}")
                    };
                    if !name[base.len()..].starts_with('.') && self.may_hold(&name) {
                        names.push(name);
                    }
                }
            }
        }
        names.sort_unstable();
        for name in names {
            if self.found.len() >= self.limit {
                break;
            }
            let path = directory.join(name[base.len()..].trim_end_matches('/'));
            if name.ends_with('/') {
                self.enter(path, &name)?;
            } else {
                self.add(name, &path)?;
            }
        }
        Ok(())
    }

    /// Whether a file of this name, or one below a directory of this name, can be in the range.
    fn may_hold(&self, name: &str) -> bool {
        if name.ends_with('/') {
            let in_prefix = name.starts_with(self.prefix) || self.prefix.starts_with(name);
            in_prefix && (name > self.after || self.after.starts_with(name))
        } else {
            name.starts_with(self.prefix) && name > self.after
        }
    }

    fn add(&mut self, name: String, path: &Path) -> io::Result<()> {
        match fs::metadata(path) {
            Ok(meta) => {
                let (size_bytes, modified) = (meta.len(), meta.modified()?);
                self.found.push(ObjectMeta {
                    key: ObjectKey(name),
                    size_bytes,
                    modified,
                });
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {} // deleted meanwhile
            Err(error) => return Err(error),
        }
        Ok(())
    }
}
