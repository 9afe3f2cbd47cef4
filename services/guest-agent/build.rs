//! Compiles the protos with protox, so that a build needs no protoc and no network.

use std::error::Error;
use std::path::PathBuf;

const ROOTS: [&str; 2] = ["../../proto", "../../proto/third_party"];
const SERVED: [&str; 5] = [
    "process/process.proto",
    "filesystem/filesystem.proto",
    "wrenn/agent/v1/agent.proto",
    "google/rpc/error_details.proto",
    "grpc/health/v1/health.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets no OUT_DIR")?);
    let mut compiler = protox::Compiler::new(ROOTS)?;
    compiler.include_imports(true).open_files(SERVED)?;
    let descriptors = out.join("agent.fds.bin");
    std::fs::write(&descriptors, compiler.encode_file_descriptor_set())?;
    connectrpc_build::Config::new()
        .descriptor_set(&descriptors)
        .files(&SERVED[..4])
        .gate_client_feature(true)
        .include_file("_connectrpc.rs")
        .compile()?;
    for root in ROOTS {
        for path in SERVED.map(|file| PathBuf::from(root).join(file)) {
            if path.exists() {
                println!("cargo::rerun-if-changed={}", path.display());
            }
        }
    }
    Ok(())
}
