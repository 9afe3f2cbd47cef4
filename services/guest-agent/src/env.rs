//! The environment of a process: base, then Init's, then the request's, then the sandbox's identity.

use crate::fault::{Fault, Outcome, Reason};
use crate::settings::Identity;
use crate::users::User;
use std::collections::BTreeMap;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const RESERVED: &str = "WRENN_";

pub type Env = BTreeMap<String, String>;

/// Builds it for one process. A request can change everything but the WRENN_* names already set.
pub fn compose(user: &User, identity: &Identity, request: Env, has_pty: bool) -> Env {
    let mut env: Env = [
        ("PATH", PATH),
        ("HOME", &user.home.to_string_lossy()),
        ("USER", &user.name),
        ("LOGNAME", &user.name),
        ("SHELL", &user.shell),
        ("LANG", "C.UTF-8"),
    ]
    .map(|(k, v)| (k.to_owned(), v.to_owned()))
    .into();
    if has_pty {
        env.insert("TERM".into(), "xterm-256color".into());
    }
    env.extend(identity.env.clone());
    env.extend(identity_vars(identity));
    for (key, value) in request {
        if !(key.starts_with(RESERVED) && env.contains_key(&key)) {
            env.insert(key, value);
        }
    }
    env
}

fn identity_vars(identity: &Identity) -> impl Iterator<Item = (String, String)> {
    let ids = [("WRENN_SANDBOX_ID", &identity.sandbox_id), ("WRENN_TEMPLATE_ID", &identity.template_id)];
    ids.into_iter()
        .filter(|(_, id)| !id.is_empty())
        .map(|(k, id)| (k.to_owned(), id.clone()))
        .chain([("WRENN_SANDBOX".to_owned(), "true".to_owned())])
}

/// Refuses what execve cannot carry.
pub fn validate(env: &Env) -> Outcome<()> {
    for (key, value) in env {
        if key.is_empty() || key.contains(['=', '\0']) || value.contains('\0') {
            return Err(Fault::new(
                Reason::BadEnv,
                format!("environment variable {key:?} has an invalid name or value"),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::users::Accounts;

    fn env(pairs: &[(&str, &str)]) -> Env {
        pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
    }

    #[test]
    fn lets_the_request_win_except_over_the_identity() -> Outcome<()> {
        let root = Accounts::read().find("root")?;
        let identity = Identity {
            sandbox_id: "cl-1".into(),
            template_id: "debian".into(),
            env: env(&[("A", "init"), ("B", "init"), ("WRENN_X", "init"), ("PATH", "/init")]),
            ..Default::default()
        };
        let request = env(&[
            ("A", "req"),
            ("HOME", "/h"),
            ("WRENN_SANDBOX_ID", "forged"),
            ("WRENN_X", "req"),
            ("WRENN_Y", "req"),
        ]);
        let got = compose(&root, &identity, request, false);
        for (key, want) in [
            ("A", "req"),
            ("B", "init"),
            ("HOME", "/h"),
            ("PATH", "/init"),
            ("WRENN_SANDBOX_ID", "cl-1"),
            ("WRENN_TEMPLATE_ID", "debian"),
            ("WRENN_SANDBOX", "true"),
            ("WRENN_X", "init"),
            ("WRENN_Y", "req"),
        ] {
            assert_eq!(got.get(key).map(String::as_str), Some(want), "{key}");
        }
        assert!(!got.contains_key("TERM"));
        Ok(())
    }

    #[test]
    fn refuses_names_and_values_that_execve_cannot_carry() {
        for bad in [("", "x"), ("a=b", "x"), ("a\0", "x"), ("a", "x\0")] {
            assert_eq!(validate(&env(&[bad])).err().map(|f| f.reason), Some(Reason::BadEnv));
        }
        assert!(validate(&env(&[("a.b", "=\n"), ("ü", "")])).is_ok());
    }
}
