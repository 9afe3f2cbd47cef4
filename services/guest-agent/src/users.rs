//! Users and groups, read from the guest's own files: a static binary must not call NSS.

use crate::fault::{Fault, Outcome, Reason};
use std::collections::HashMap;
use std::path::PathBuf;

/// Who a process runs as or a file operation is done for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    /// All groups, the primary one first.
    pub groups: Vec<u32>,
    pub home: PathBuf,
    pub shell: String,
}

/// The account files as they are at one moment.
pub struct Accounts {
    passwd: String,
    group: String,
}

impl Accounts {
    /// Reads afresh each time, since programs in the guest add users. An absent file is an empty one.
    pub fn read() -> Self {
        let text = |path| std::fs::read(path).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default();
        Self { passwd: text("/etc/passwd"), group: text("/etc/group") }
    }

    pub fn find(&self, name: &str) -> Outcome<User> {
        let found = records(&self.passwd).find_map(|f| (f.len() >= 4 && f[0] == name).then(|| self.user(&f)).flatten());
        match found {
            Some(user) => Ok(user),
            // A root filesystem without accounts still has its root.
            None if name == "root" => Ok(User {
                name: "root".into(),
                uid: 0,
                gid: 0,
                groups: vec![0],
                home: "/root".into(),
                shell: "/bin/sh".into(),
            }),
            None => Err(Fault::new(Reason::UnknownUser, format!("user {name:?} does not exist in the sandbox"))),
        }
    }

    fn user(&self, fields: &[&str]) -> Option<User> {
        let text = |i: usize, or: &str| match fields.get(i) {
            Some(s) if !s.is_empty() => (*s).to_owned(),
            _ => or.to_owned(),
        };
        let gid = fields[3].parse().ok()?;
        Some(User {
            name: fields[0].to_owned(),
            uid: fields[2].parse().ok()?,
            gid,
            groups: self.groups_of(fields[0], gid),
            home: text(5, "/").into(),
            shell: text(6, "/bin/sh"),
        })
    }

    fn groups_of(&self, name: &str, gid: u32) -> Vec<u32> {
        let mut groups = vec![gid];
        for f in records(&self.group) {
            let member = f.get(3).is_some_and(|members| members.split(',').any(|m| m == name));
            if let (true, Some(id)) = (member, f.get(2).and_then(|id| id.parse().ok()))
                && !groups.contains(&id)
            {
                groups.push(id);
            }
        }
        groups
    }

    pub fn user_names(&self) -> HashMap<u32, String> {
        names(&self.passwd)
    }

    pub fn group_names(&self) -> HashMap<u32, String> {
        names(&self.group)
    }
}

fn records(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().filter(|l| !l.starts_with('#') && l.contains(':')).map(|l| l.split(':').collect())
}

fn names(text: &str) -> HashMap<u32, String> {
    let mut out = HashMap::new();
    for f in records(text) {
        if let Some(id) = f.get(2).and_then(|id| id.parse().ok()) {
            out.entry(id).or_insert_with(|| f[0].to_owned());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts(passwd: &str, group: &str) -> Accounts {
        Accounts { passwd: passwd.into(), group: group.into() }
    }

    #[test]
    fn finds_a_user_with_all_supplementary_groups() -> Outcome<()> {
        let a = accounts(
            "root:x:0:0:root:/root:/bin/bash\nann:x:1000:1001:Ann,,,:/home/ann:/bin/zsh\n",
            "ann:x:1001:\nsudo:x:27:bob,ann\ndocker:x:999:ann\nannex:x:5:annex\n",
        );
        let ann = a.find("ann")?;
        assert_eq!((ann.uid, ann.gid, ann.groups), (1000, 1001, vec![1001, 27, 999]));
        assert_eq!((ann.home, ann.shell.as_str()), (PathBuf::from("/home/ann"), "/bin/zsh"));
        Ok(())
    }

    #[test]
    fn gives_root_in_a_guest_without_accounts_and_refuses_all_others() {
        let a = accounts("", "");
        assert_eq!(a.find("root").map(|u| u.uid).ok(), Some(0));
        assert_eq!(a.find("ann").err().map(|f| f.reason), Some(Reason::UnknownUser));
        assert!(a.find("").is_err());
    }

    #[test]
    fn survives_broken_lines() {
        let a = accounts("x\n:::\nann:x:not-a-number:1:::\nann:x:7:8", "a:b:c:ann\n::\n");
        let ann = a.find("ann");
        assert_eq!(ann.map(|u| (u.uid, u.gid, u.home, u.shell)).ok(), Some((7, 8, "/".into(), "/bin/sh".into())));
    }
}
