//! Filters, run: in a small interpreter of classic BPF, beside libseccomp, and in the kernel.

mod interpreter;
