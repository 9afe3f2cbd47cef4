//! The command line.

use crate::descriptors::take_file;
use crate::dump::Dumped;
use crate::serve::Served;
use std::fs::File;
use std::path::PathBuf;

pub const USAGE: &str = "usage: wrenn-pager serve --listen PATH --header FD --file FD[:SUMS_FD] ... \
    [--working-set FD] [--record FD] [--eager]
       wrenn-pager dump --pid PID --address HEX --bytes N --out PATH";

pub enum Command {
    Serve(Served),
    Dump(Dumped),
}

pub fn parse(args: &[String]) -> Result<Command, String> {
    let (command, options) = args.split_first().ok_or("no command")?;
    match command.as_str() {
        "serve" => serve(options).map(Command::Serve),
        "dump" => dump(options).map(Command::Dump),
        other => Err(format!("no command \"{other}\"")),
    }
}

fn serve(options: &[String]) -> Result<Served, String> {
    let (mut listen, mut header, mut files) = (None, None, Vec::new());
    let (mut working_set, mut record, mut is_eager) = (None, None, false);
    let mut words = options.iter();
    while let Some(option) = words.next() {
        if option == "--eager" {
            is_eager = true;
            continue;
        }
        let value = words.next().ok_or(format!("{option} without a value"))?;
        match option.as_str() {
            "--listen" => once(&mut listen, option, PathBuf::from(value))?,
            "--header" => once(&mut header, option, take_file(value)?)?,
            "--file" => files.push(build(value)?),
            "--working-set" => once(&mut working_set, option, take_file(value)?)?,
            "--record" => once(&mut record, option, take_file(value)?)?,
            _ => return Err(format!("no option {option}")),
        }
    }
    Ok(Served {
        listen: listen.ok_or("--listen is missing")?,
        header: header.ok_or("--header is missing")?,
        files,
        working_set,
        record,
        is_eager,
    })
}

fn build(value: &str) -> Result<(File, Option<File>), String> {
    match value.split_once(':') {
        Some((file, sums)) => Ok((take_file(file)?, Some(take_file(sums)?))),
        None => Ok((take_file(value)?, None)),
    }
}

fn dump(options: &[String]) -> Result<Dumped, String> {
    let (mut pid, mut address, mut bytes, mut out) = (None, None, None, None);
    let mut words = options.iter();
    while let Some(option) = words.next() {
        let value = words.next().ok_or(format!("{option} without a value"))?;
        let bad = || format!("{option} {value}");
        match option.as_str() {
            "--pid" => once(&mut pid, option, value.parse().map_err(|_| bad())?)?,
            "--address" => once(&mut address, option, u64::from_str_radix(value, 16).map_err(|_| bad())?)?,
            "--bytes" => once(&mut bytes, option, value.parse().map_err(|_| bad())?)?,
            "--out" => once(&mut out, option, PathBuf::from(value))?,
            _ => return Err(format!("no option {option}")),
        }
    }
    Ok(Dumped {
        pid: pid.ok_or("--pid is missing")?,
        address: address.ok_or("--address is missing")?,
        bytes: bytes.ok_or("--bytes is missing")?,
        out: out.ok_or("--out is missing")?,
    })
}

fn once<T>(slot: &mut Option<T>, option: &str, value: T) -> Result<(), String> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(format!("{option} twice")),
    }
}
