//! The pager of one VM. README.md says what it promises.

use std::process::ExitCode;
use wrenn_pager::args::{self, Command};
use wrenn_pager::dump::dump_at_word;
use wrenn_pager::serve::{FATAL_EXIT, say, serve};

const USAGE_EXIT: u8 = 2;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match args::parse(&words) {
        Ok(Command::Serve(served)) => match serve(served) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::from(FATAL_EXIT),
        },
        Ok(Command::Dump(dumped)) => match dump_at_word(&dumped, std::io::stdin()) {
            Ok(pages) => {
                pages.into_iter().for_each(say::dumped);
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
