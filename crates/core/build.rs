//! Compiles the schemas with protox, so that a build needs no `protoc` on the machine.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let root = "../../proto-schemas";
    let files = ["event.proto", "wake_up.proto"].map(|file| format!("{root}/hookline/v1/{file}"));
    println!("cargo:rerun-if-changed={root}");
    let descriptors = protox::compile(files, [root])?;
    prost_build::Config::new()
        .bytes([".hookline.v1"])
        .compile_fds(descriptors)?;
    Ok(())
}
