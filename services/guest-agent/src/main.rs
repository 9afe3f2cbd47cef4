//! One static binary: PID 1 of a guest, the process and filesystem server in it, and two small tools.

mod console;
mod env;
mod fault;
mod files;
mod init;
mod machine;
mod paths;
mod plain;
mod process;
mod proto;
mod server;
mod services;
mod settings;
mod tsc;
mod users;

use std::net::SocketAddr;
use std::process::ExitCode;

const USAGE: &str = "usage: wrenn-agent serve --listen ADDR:PORT | wrenn-agent tsc-khz (as PID 1: boots the machine)";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["serve", "--listen", address] => match address.parse::<SocketAddr>() {
            Ok(address) => server::run_on_host(address),
            Err(e) => Err(format!("--listen {address}: {e}")),
        },
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
