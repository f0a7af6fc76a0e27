//! The program; everything is in the library.

#[global_allocator]
static ALLOCATOR: jailrun::sys::Heap = jailrun::sys::Heap::new();

fn main() {
    std::process::exit(jailrun::cli::main());
}
