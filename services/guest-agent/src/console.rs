//! The agent's few lines for whoever watches the machine from outside: the console in a guest.

use std::fmt::Display;
use std::io::Write as _;

/// One line. Nobody is left to be told when even that fails.
pub fn say(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "wrenn-agent: {line}");
}
