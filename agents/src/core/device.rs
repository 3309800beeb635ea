//! Where networks compute: plain slices on the CPU, or tensors on wgpu, chosen at run time.

use std::cell::Cell;

use burn::tensor::{Tensor, TensorData};

/// A place where networks compute.
#[derive(Clone, Debug)]
pub struct Device {
    burn: burn::tensor::Device,
    cpu: bool,
}

/// The device cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// No device of that name, or not compiled in.
    #[error("unknown device '{0}'; this build has: {available}", available = Device::NAMES.join(", "))]
    Unknown(String),
    /// No graphics adapter.
    #[error(
        "device 'wgpu' found no graphics adapter ({0}); install a Vulkan driver (on Debian: \
         `apt-get install mesa-vulkan-drivers` gives one in software) or use `--device cpu`"
    )]
    NoAdapter(String),
}

impl Device {
    /// Names of the devices of this build.
    pub const NAMES: &'static [&'static str] = &[
        #[cfg(feature = "cpu")]
        "cpu",
        #[cfg(feature = "wgpu")]
        "wgpu",
    ];

    /// The CPU, on the calling thread: networks compute on plain slices ([`kernels`](super::kernels)).
    #[cfg(feature = "cpu")]
    pub fn cpu() -> Self {
        Self { burn: burn::tensor::Device::flex(), cpu: true }
    }

    /// The CPU through the tensor library and its autodiff graphs: what graphics devices do, on burn's CPU backend. The
    /// second opinion on [`Self::cpu`], in tests and benchmarks.
    #[cfg(feature = "cpu")]
    pub fn cpu_tensors() -> Self {
        Self { burn: burn::tensor::Device::flex(), cpu: false }
    }

    /// The default graphics adapter.
    ///
    /// # Errors
    /// [`DeviceError::NoAdapter`] on a machine without one.
    #[cfg(feature = "wgpu")]
    pub fn wgpu() -> Result<Self, DeviceError> {
        // The tensor library panics where no adapter is found, at first use and on its own thread: ask first.
        let kind = burn::tensor::DeviceKind::DefaultDevice;
        let found = std::panic::catch_unwind(|| {
            burn::tensor::Device::enumerate(burn::tensor::DeviceType::Wgpu).into_vec().len()
        });
        match found {
            Ok(n) if n > 0 => Ok(Self { burn: burn::tensor::Device::wgpu(kind), cpu: false }),
            Ok(_) => Err(DeviceError::NoAdapter("none listed".to_owned())),
            Err(_) => Err(DeviceError::NoAdapter("listing them failed".to_owned())),
        }
    }

    /// The device called `cpu` or `wgpu`.
    ///
    /// # Errors
    /// For another name, one that is not compiled in, or one that this machine lacks.
    pub fn named(name: &str) -> Result<Self, DeviceError> {
        match name {
            #[cfg(feature = "cpu")]
            "cpu" => Ok(Self::cpu()),
            #[cfg(feature = "wgpu")]
            "wgpu" => Self::wgpu(),
            _ => Err(DeviceError::Unknown(name.to_owned())),
        }
    }

    /// Whether networks compute on plain slices in host memory.
    pub fn is_cpu(&self) -> bool {
        self.cpu
    }

    /// Uploads a vector.
    pub fn vector(&self, values: Vec<f32>) -> Tensor<1> {
        let n = values.len();
        self.upload(TensorData::new(values, [n]))
    }

    /// Uploads a matrix of `columns` columns, row by row.
    pub fn matrix(&self, values: Vec<f32>, columns: usize) -> Tensor<2> {
        let rows = values.len() / columns.max(1);
        self.upload(TensorData::new(values, [rows, columns]))
    }

    /// Uploads row numbers.
    pub fn indices(&self, values: &[u32]) -> Tensor<1, burn::tensor::Int> {
        let values: Vec<i32> = values.iter().map(|i| *i as i32).collect();
        let n = values.len();
        count(|t| t.uploads += 1);
        Tensor::from_data(TensorData::new(values, [n]), &self.burn)
    }

    fn upload<const D: usize>(&self, data: TensorData) -> Tensor<D> {
        count(|t| t.uploads += 1);
        Tensor::from_data(data, &self.burn)
    }
}

/// Transfers between the host and tensors, counted on the calling thread. burn offers no count of dispatches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transfers {
    /// From the host.
    pub uploads: u64,
    /// To the host; each waits for the device.
    pub downloads: u64,
}

thread_local! {
    static TRANSFERS: Cell<Transfers> = const { Cell::new(Transfers { uploads: 0, downloads: 0 }) };
}

/// Transfers that the calling thread has made so far.
pub fn transfers() -> Transfers {
    TRANSFERS.get()
}

fn count(add: impl FnOnce(&mut Transfers)) {
    let mut transfers = TRANSFERS.get();
    add(&mut transfers);
    TRANSFERS.set(transfers);
}

/// Downloads a tensor.
pub fn to_host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    count(|t| t.downloads += 1);
    // Every tensor of this crate is f32; an empty answer would fail the caller's length checks.
    tensor.into_data().try_into_vec::<f32>().unwrap_or_default()
}
