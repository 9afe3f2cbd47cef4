//! One static binary: PID 1 of a guest, the process and filesystem server in it, and two small tools.

mod connections;
mod console;
mod env;
mod fault;
mod files;
mod init;
mod machine;
mod memory;
mod paths;
mod plain;
mod ports;
mod process;
mod proto;
mod server;
mod services;
mod settings;
mod timing;
mod transfer;
mod tsc;
mod users;

use std::process::ExitCode;

const USAGE: &str = "usage: wrenn-agent serve --listen ADDR:PORT [--forward-on ADDR] | wrenn-agent tsc-khz (as PID 1: boots the machine)";

fn serve(address: &str, guest: Option<&str>) -> Result<(), String> {
    let address = address.parse().map_err(|e| format!("--listen {address}: {e}"))?;
    let guest = guest.map(|ip| ip.parse().map_err(|e| format!("--forward-on {ip}: {e}"))).transpose()?;
    server::run_on_host(address, guest)
}

fn main() -> ExitCode {
    memory::keep_small();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["serve", "--listen", address] => serve(address, None),
        ["serve", "--listen", address, "--forward-on", guest] => serve(address, Some(guest)),
        ["tsc-khz"] => {
            println!("{}", tsc::khz());
            Ok(())
        }
        // The kernel hands unknown words of its command line to init as arguments.
        _ if std::process::id() == 1 => init::run(),
        _ => Err(USAGE.to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("wrenn-agent: {why}");
            ExitCode::FAILURE
        }
    }
}
