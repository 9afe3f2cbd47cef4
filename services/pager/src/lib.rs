//! What the pager and the shim share: the formats of docs/formats.md, the handshake, userfaultfd.

pub mod format;
