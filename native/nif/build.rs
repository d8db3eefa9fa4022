//! Runs at build time only: tells the linker what cargo has no key for.

fn main() {
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("macos") {
        // Apple's linker has to be told that the functions of the BEAM and of Python are found when
        // the library is loaded.
        println!("cargo:rustc-cdylib-link-arg=-undefined");
        println!("cargo:rustc-cdylib-link-arg=dynamic_lookup");
    } else {
        // A worker thread may still be inside this library when its module is purged, so the
        // library is never unmapped.
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
    println!("cargo:rerun-if-changed=build.rs");
}
