//! What vm-runtime asks for, taken out of the environment: programs that QEMU starts must not find it there.

use std::env;
use std::ffi::{CString, OsString};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use wrenn_pager::descriptors::{take, take_file};

pub struct Settings {
    pub ram: CString,
    pub mode: Mode,
}

pub enum Mode {
    Map(Map),
    Uffd(Uffd),
}

pub struct Map {
    pub header: File,
    pub files: Vec<File>,
    pub report: PathBuf,
}

pub struct Uffd {
    pub device: OwnedFd,
    pub socket: PathBuf,
}

/// Nothing to do if `WRENN_SHIM` is not set.
pub fn take_out() -> Result<Option<Settings>, String> {
    let Some(mode) = taken("WRENN_SHIM") else { return Ok(None) };
    let ram = CString::new(demanded("WRENN_SHIM_RAM")?.into_vec()).map_err(|error| error.to_string())?;
    let mode = match mode.to_str() {
        Some("map") => Mode::Map(Map {
            header: take_file(&text("WRENN_SHIM_HEADER")?)?,
            files: text("WRENN_SHIM_FILES")?.split(',').map(take_file).collect::<Result<_, _>>()?,
            report: demanded("WRENN_SHIM_REPORT")?.into(),
        }),
        Some("uffd") => {
            Mode::Uffd(Uffd { device: take(&text("WRENN_SHIM_UFFD")?)?, socket: demanded("WRENN_SHIM_SOCKET")?.into() })
        }
        _ => return Err(format!("WRENN_SHIM is {}", mode.display())),
    };
    // Set for us alone.
    taken("LD_PRELOAD");
    Ok(Some(Settings { ram, mode }))
}

fn taken(name: &str) -> Option<OsString> {
    let value = env::var_os(name)?;
    // SAFETY: the program has not begun: no other thread uses the environment.
    unsafe { env::remove_var(name) };
    Some(value)
}

fn demanded(name: &str) -> Result<OsString, String> {
    taken(name).ok_or(format!("{name} is not set"))
}

fn text(name: &str) -> Result<String, String> {
    demanded(name)?.into_string().map_err(|value| format!("{name} is {}", value.display()))
}
