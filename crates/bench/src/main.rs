//! `make bench`.

fn main() -> anyhow::Result<()> {
    let out = std::env::args_os().nth(1).unwrap_or_else(|| ".".into());
    let tables = hookline_bench::simulation::run(out.as_ref())?;
    println!("{tables}");
    Ok(())
}
