//! The pager of one VM. README.md says what it promises.

use std::process::ExitCode;
use wrenn_pager::args::{self, Command};
use wrenn_pager::dump::{Scanner, dump};
use wrenn_pager::serve::{FATAL_EXIT, say, serve};

const USAGE_EXIT: u8 = 2;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match args::parse(&words) {
        Ok(Command::Serve(served)) => match serve(served) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::from(FATAL_EXIT),
        },
        Ok(Command::Dump(dumped)) => match dump(&dumped, Scanner::Best) {
            Ok(pages) => {
                say::dumped(pages);
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("wrenn-pager: {error}");
                ExitCode::FAILURE
            }
        },
        Err(why) => {
            eprintln!("wrenn-pager: {why}\n{}", args::USAGE);
            ExitCode::from(USAGE_EXIT)
        }
    }
}
