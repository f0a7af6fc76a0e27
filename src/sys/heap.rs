//! The heap of the program.

use std::sync::atomic::{AtomicU32, Ordering};

use super::exit_now;

/// How many callers have threads at this time; see [`Threads`].
static THREADS: AtomicU32 = AtomicU32::new(0);

/// Permits threads while it lives: the heap is locked meanwhile. Whoever has
/// one joins each thread itself before it drops it; that a scope of threads has
/// ended does not mean that they have.
#[derive(Debug)]
pub struct Threads(());

impl Threads {
    /// Announces threads.
    pub fn announce() -> Self {
        THREADS.fetch_add(1, Ordering::SeqCst);
        Self(())
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        THREADS.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Ends a process for which there is no memory: one that aborts says it to
/// nobody, and its status is none of jailrun's.
fn out_of_memory() -> ! {
    const MESSAGE: &[u8] = b"jailrun: out of memory\n";
    // SAFETY: pointer and length describe the message.
    unsafe { libc::write(2, MESSAGE.as_ptr().cast(), MESSAGE.len()) };
    exit_now(125)
}

/// What an allocation gives, unless there is no memory.
fn memory(pointer: *mut u8) -> *mut u8 {
    if pointer.is_null() {
        out_of_memory();
    }
    pointer
}

/// The heap: the C library's.
#[cfg(not(target_env = "musl"))]
#[derive(Debug, Default)]
pub struct Heap;

#[cfg(not(target_env = "musl"))]
impl Heap {
    /// The C library's heap.
    pub const fn new() -> Self {
        Self
    }
}

// SAFETY: hands on to the system's, which keeps the contract.
#[cfg(not(target_env = "musl"))]
unsafe impl std::alloc::GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: std::alloc::Layout) -> *mut u8 {
        // SAFETY: the caller's promises are the callee's.
        memory(unsafe { std::alloc::System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: std::alloc::Layout) -> *mut u8 {
        // SAFETY: as above.
        memory(unsafe { std::alloc::System.alloc_zeroed(layout) })
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: std::alloc::Layout) {
        // SAFETY: as above.
        unsafe { std::alloc::System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: std::alloc::Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        memory(unsafe { std::alloc::System.realloc(pointer, layout, size) })
    }
}

/// The heap of a program that has one thread almost all the time: dlmalloc
/// without a lock, which on every allocation costs more than the allocation.
/// While [`Threads`] are announced, with one.
#[cfg(target_env = "musl")]
#[derive(Debug)]
pub struct Heap {
    heap: std::cell::UnsafeCell<dlmalloc::Dlmalloc>,
    lock: std::sync::Mutex<()>,
}

#[cfg(target_env = "musl")]
impl Heap {
    /// An empty heap.
    pub const fn new() -> Self {
        Self {
            heap: std::cell::UnsafeCell::new(dlmalloc::Dlmalloc::new()),
            lock: std::sync::Mutex::new(()),
        }
    }

    /// Keeps other threads out, if there are any.
    fn enter(&self) -> Option<std::sync::MutexGuard<'_, ()>> {
        if THREADS.load(Ordering::Relaxed) == 0 {
            return None;
        }
        // No panic leaves the heap half changed: dlmalloc aborts.
        Some(self.lock.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

#[cfg(target_env = "musl")]
impl Default for Heap {
    fn default() -> Self {
        Self::new()
    }
}

// SAFETY: jailrun has threads only while they are announced, when there is a
// lock, and the process that shares its memory runs only while this one is
// suspended (see vfork).
#[cfg(target_env = "musl")]
unsafe impl Sync for Heap {}

// SAFETY: dlmalloc keeps the contract of GlobalAlloc; a second thread is locked
// out, and no signal handler enters it.
#[cfg(target_env = "musl")]
unsafe impl std::alloc::GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: std::alloc::Layout) -> *mut u8 {
        let _guard = self.enter();
        // SAFETY: the only reference at this time; size and alignment are valid.
        memory(unsafe { (*self.heap.get()).malloc(layout.size(), layout.align()) })
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: std::alloc::Layout) {
        let _guard = self.enter();
        // SAFETY: as above; the pointer comes from this heap with that layout.
        unsafe { (*self.heap.get()).free(pointer, layout.size(), layout.align()) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: std::alloc::Layout, size: usize) -> *mut u8 {
        let _guard = self.enter();
        // SAFETY: as above.
        memory(unsafe { (*self.heap.get()).realloc(pointer, layout.size(), layout.align(), size) })
    }
}
