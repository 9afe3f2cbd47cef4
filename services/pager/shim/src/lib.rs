//! Preloaded into QEMU.
