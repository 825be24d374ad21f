use super::fixture::{Image, in_mount_namespace, stubs};
use super::*;
#[test]
fn trial_timing() {
    in_mount_namespace(|| {
        let image = Image::debian();
        std::fs::copy("/etc/ld.so.cache", image.path(CACHE)).unwrap();
        let mut plan = stubs().plan();
        for i in 0..40 {
            let mut f = plan.files[0].clone();
            f.destination = Place::Library(Abi::Native, format!("libnvidia-x{i}.so.550.54.14").into());
            plan.files.push(f);
        }
        for i in 0..5 {
            let t = std::time::Instant::now();
            image.apply(&plan).unwrap();
            println!("apply {i}: {:?}", t.elapsed());
            let sys = std::fs::read(image.path(CACHE)).unwrap();
            let t = std::time::Instant::now();
            let e = crate::gpu::loader::cache::extend(Some(&sys), &[]);
            println!("extend of {}: {:?}", e.len(), t.elapsed());
        }
    });
}
