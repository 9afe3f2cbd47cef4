//! What the host told this guest about itself, and whether the agent may change the machine.

use crate::env::Env;
use crate::fault::{Fault, Outcome, Reason};
use crate::users::{Accounts, User};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use std::path::PathBuf;
use std::sync::{PoisonError, RwLock};

/// Set by Init (and envd's /init); empty until then.
#[derive(Debug, Clone, Default)]
pub struct Identity {
    pub sandbox_id: String,
    pub template_id: String,
    pub env: Env,
    /// Empty means root.
    pub default_user: String,
    /// Empty means the user's home.
    pub default_cwd: String,
}

pub struct Settings {
    identity: RwLock<Identity>,
    access_token: RwLock<Option<String>>,
    url_secret: RwLock<Option<String>>,
    /// False on a host (tests): the clock, host name and /etc belong to somebody else there.
    pub owns_machine: bool,
    /// Where the id files go; none: nowhere.
    pub run_dir: Option<PathBuf>,
}

impl Settings {
    pub fn new(owns_machine: bool, run_dir: Option<PathBuf>) -> Self {
        let (identity, access_token, url_secret) = Default::default();
        Self { identity, access_token, url_secret, owns_machine, run_dir }
    }

    pub fn identity(&self) -> Identity {
        self.identity.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn update(&self, change: impl FnOnce(&mut Identity)) {
        change(&mut self.identity.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// What plain clients have to show, if anything.
    pub fn access_token(&self) -> Option<String> {
        self.access_token.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set_access_token(&self, token: String) {
        *self.access_token.write().unwrap_or_else(PoisonError::into_inner) = Some(token);
    }

    /// Init's secret for /files; empty for none.
    pub fn set_url_secret(&self, secret: String) {
        *self.url_secret.write().unwrap_or_else(PoisonError::into_inner) = Some(secret).filter(|s| !s.is_empty());
    }

    /// Each opens /files: by itself, or by what is signed with it.
    pub fn secrets(&self) -> Vec<String> {
        let url_secret = self.url_secret.read().unwrap_or_else(PoisonError::into_inner).clone();
        url_secret.into_iter().chain(self.access_token()).collect()
    }

    /// Leaves the ids where shell scripts find them.
    pub fn write_ids(&self, identity: &Identity) -> Outcome<()> {
        let Some(dir) = &self.run_dir else { return Ok(()) };
        let ids = [(".WRENN_SANDBOX_ID", &identity.sandbox_id), (".WRENN_TEMPLATE_ID", &identity.template_id)];
        for (name, id) in ids {
            crate::machine::replace(&dir.join(name), id).map_err(|e| Fault::internal("write the id files", e))?;
        }
        Ok(())
    }

    /// The user a call acts for: named by its Basic authorization, else the default one.
    pub fn caller(&self, headers: &HeaderMap) -> Outcome<User> {
        let named = basic_username(headers)?.filter(|n| !n.is_empty());
        let name = named.unwrap_or_else(|| self.identity().default_user);
        Accounts::read().find(if name.is_empty() { "root" } else { &name })
    }
}

fn basic_username(headers: &HeaderMap) -> Outcome<Option<String>> {
    let Some(value) = headers.get(http::header::AUTHORIZATION) else { return Ok(None) };
    let bad =
        || Fault::new(Reason::BadAuthorization, "the Basic authorization header does not hold base64 of \"user:\"");
    let text = value.to_str().map_err(|_| bad())?;
    let Some((scheme, credentials)) = text.split_once(' ') else { return Ok(None) };
    if !scheme.eq_ignore_ascii_case("basic") {
        return Ok(None);
    }
    let bytes = STANDARD.decode(credentials.trim()).map_err(|_| bad())?;
    let pair = String::from_utf8(bytes).map_err(|_| bad())?;
    let name = pair.split_once(':').map_or(pair.as_str(), |(name, _)| name);
    Ok(Some(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn named(value: &str) -> Outcome<Option<String>> {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", HeaderValue::from_str(value).map_err(|e| Fault::internal("test", e))?);
        basic_username(&headers)
    }

    #[test]
    fn reads_the_user_from_basic_authorization_only() {
        assert_eq!(named(&format!("Basic {}", STANDARD.encode("ann:"))).ok(), Some(Some("ann".into())));
        assert_eq!(named(&format!("basic {}", STANDARD.encode("ann:secret"))).ok(), Some(Some("ann".into())));
        assert_eq!(named("Bearer abc").ok(), Some(None));
        assert_eq!(basic_username(&HeaderMap::new()).ok(), Some(None));
        assert_eq!(named("Basic %%%").err().map(|f| f.reason), Some(Reason::BadAuthorization));
    }
}
