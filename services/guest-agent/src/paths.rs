//! How a path in a request becomes an absolute one. Symbolic links and ".." stay the kernel's business:
//! they are walked with the user's own credentials.

use crate::fault::{Fault, Outcome, Reason};
use crate::users::User;
use std::path::{Component, Path, PathBuf};

const MAX_BYTES: usize = 4095;

/// Absolute stays; `~`, `~/x` and relative paths start at the user's home.
pub fn resolve(path: &str, user: &User) -> Outcome<PathBuf> {
    let bad = |why: &str| Err(Fault::new(Reason::BadPath, format!("path {why}")));
    if path.len() > MAX_BYTES {
        return bad("is longer than 4095 bytes");
    }
    if path.contains('\0') {
        return bad("holds a NUL byte");
    }
    let joined = match path.strip_prefix('~') {
        Some("") => user.home.clone(),
        Some(rest) if rest.starts_with('/') => user.home.join(rest.trim_start_matches('/')),
        Some(_) => return bad("names another user's home, which is not supported"),
        None => user.home.join(path),
    };
    Ok(tidy(&joined))
}

/// Drops "//", "/./" and trailing slashes.
fn tidy(path: &Path) -> PathBuf {
    let mut out = PathBuf::from("/");
    out.extend(path.components().filter(|c| matches!(c, Component::Normal(_) | Component::ParentDir)));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolves_against_the_home() {
        let ann = User {
            name: "ann".into(),
            uid: 1,
            gid: 1,
            groups: vec![1],
            home: "/home/ann".into(),
            shell: String::new(),
        };
        for (given, want) in [
            ("/a//b/./c/", "/a/b/c"),
            ("x/y", "/home/ann/x/y"),
            ("", "/home/ann"),
            ("~", "/home/ann"),
            ("~/z", "/home/ann/z"),
            ("~//z", "/home/ann/z"),
            ("../b", "/home/ann/../b"),
            ("/", "/"),
            (".", "/home/ann"),
        ] {
            assert_eq!(resolve(given, &ann).ok(), Some(PathBuf::from(want)), "{given}");
        }
        for bad in ["~bob/x", "/a\0b", &"x".repeat(4096)] {
            assert_eq!(resolve(bad, &ann).err().map(|f| f.reason), Some(Reason::BadPath));
        }
    }
}
