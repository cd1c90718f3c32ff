// SPDX-License-Identifier: Apache-2.0
//! leak_rust LOG: one function forgets a boxed slice, 50 times a second; the
//! log is written from a buffer on the stack.
use std::fs::{File, OpenOptions};
use std::hint::black_box;
use std::io::Write;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const SIZE: usize = 1000;
static LAST: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());

#[inline(never)]
fn leak_site(size: usize) {
    let block = vec![7u8; size].into_boxed_slice(); // LEAK
    LAST.store(black_box(Box::leak(block)).as_mut_ptr(), Ordering::Relaxed);
}

#[inline(never)]
fn healthy() -> usize {
    let text: String = (0..20).map(|i| i.to_string()).collect();
    text.len()
}

fn log_leak(log: &mut File, blocks: u64, bytes: u64) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let mut line = [0u8; 96];
    let mut rest = &mut line[..];
    writeln!(rest, "{}.{:09} {} {}", now.as_secs(), now.subsec_nanos(), blocks, bytes).unwrap();
    let left = rest.len();
    log.write_all(&line[..96 - left]).unwrap();
}

fn main() {
    let path = std::env::args().nth(1).expect("usage: leak_rust LOG");
    let mut log = OpenOptions::new().append(true).create(true).open(path).unwrap();
    println!(
        "{{\"ready\": true, \"pid\": {}, \"function\": \"leak_site\", \"size\": {}}}",
        std::process::id(),
        SIZE
    );
    let period = Duration::from_millis(20);
    let mut next = Instant::now();
    for n in 1.. {
        next += period;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        leak_site(SIZE);
        log_leak(&mut log, n, n * SIZE as u64);
        assert!(healthy() > 0);
    }
}
