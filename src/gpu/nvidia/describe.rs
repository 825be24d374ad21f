//! What a CDI file of NVIDIA's GPUs needs to know.

use std::path::PathBuf;

use oci_spec::runtime::Spec;

use super::config::Config;
use super::wish::NvidiaWish;
use super::{KIND, Nvidia, driver};
use crate::gpu::cdi::generate::Describe;
use crate::gpu::error::GpuError;
use crate::gpu::request::Asked;
use crate::gpu::vendor::{Vendor, Wish};
use crate::host::Settings;

impl Describe for Nvidia {
    fn everything(&self, kind: &'static str, device: String) -> Result<Box<dyn Wish>, GpuError> {
        if kind != KIND {
            return self.native(kind, vec![device], &Asked::of(&Spec::default()));
        }
        Ok(Box::new(NvidiaWish::everything(&device)?))
    }

    fn roots(&self, settings: &Settings) -> Result<Vec<PathBuf>, GpuError> {
        Ok(driver::roots(&Config::read(settings)?.driver_root))
    }

    fn part_word(&self) -> &'static str {
        "mig"
    }
}
