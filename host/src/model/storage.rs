//! Where the values of a set of parameters are.
//!
//! On the processor they are one shared vector. On a GPU a set that is not trained has that vector and, beside it, one copy in
//! the device's dtype that all its clones read; a set that is trained has an f32 master copy and the copy that passes read,
//! both on the device (docs/cuda.md).

use std::borrow::Cow;
use std::sync::{Arc, Weak};

use crate::device::Device;
use crate::error::Result;

#[cfg(all(test, feature = "cuda"))]
mod tests;

#[cfg(feature = "cuda")]
pub(crate) use on_gpu::{Trained, TrainedMut};

/// Values of a set of parameters.
#[derive(Clone, Debug)]
pub(super) enum Storage {
    /// On the processor.
    Host(Arc<HostValues>),
    /// On a GPU, not trained there: both the processor's values and the device's copy of them.
    #[cfg(feature = "cuda")]
    Frozen(Arc<HostValues>, Arc<on_gpu::Copied>),
    /// On a GPU alone, trained there.
    #[cfg(feature = "cuda")]
    Trained(Trained),
}

/// Values on the processor, and where a device has a copy of them.
#[derive(Debug)]
pub(super) struct HostValues {
    values: Vec<f32>,
    #[cfg(feature = "cuda")]
    copy: std::sync::Mutex<Weak<on_gpu::Copied>>,
}

impl HostValues {
    fn new(values: Vec<f32>) -> Self {
        Self {
            values,
            #[cfg(feature = "cuda")]
            copy: std::sync::Mutex::default(),
        }
    }
}

/// A clone is made to be changed: it has no copies.
impl Clone for HostValues {
    fn clone(&self) -> Self {
        Self::new(self.values.clone())
    }
}

/// Values that are not kept alive.
#[derive(Clone, Debug)]
pub(super) struct WeakStorage(Weak<HostValues>);

impl WeakStorage {
    pub(super) fn upgrade(&self) -> Option<Storage> {
        self.0.upgrade().map(Storage::Host)
    }

    pub(super) fn is_held(&self) -> bool {
        self.0.strong_count() > 0
    }
}

impl Storage {
    pub(super) fn new(values: Vec<f32>) -> Self {
        Self::Host(Arc::new(HostValues::new(values)))
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Host(values) => values.values.len(),
            #[cfg(feature = "cuda")]
            Self::Frozen(values, _) => values.values.len(),
            #[cfg(feature = "cuda")]
            Self::Trained(trained) => trained.len(),
        }
    }

    pub(super) fn device(&self) -> Device {
        match self {
            Self::Host(_) => Device::Cpu,
            #[cfg(feature = "cuda")]
            Self::Frozen(_, copy) => Device::Cuda(copy.gpu().clone()),
            #[cfg(feature = "cuda")]
            Self::Trained(trained) => Device::Cuda(trained.gpu().clone()),
        }
    }

    pub(super) fn values(&self) -> Result<Cow<'_, [f32]>> {
        match self {
            Self::Host(values) => Ok(Cow::Borrowed(&values.values)),
            #[cfg(feature = "cuda")]
            Self::Frozen(values, _) => Ok(Cow::Borrowed(&values.values)),
            #[cfg(feature = "cuda")]
            Self::Trained(trained) => Ok(Cow::Owned(trained.download()?)),
        }
    }

    pub(super) fn host(&self) -> &[f32] {
        match self {
            Self::Host(values) => &values.values,
            #[cfg(feature = "cuda")]
            Self::Frozen(values, _) => &values.values,
            #[cfg(feature = "cuda")]
            Self::Trained(_) => panic!("invariant: the processor's passes read its own values"),
        }
    }

    pub(super) fn host_mut(&mut self) -> &mut [f32] {
        match self {
            Self::Host(values) => {
                let values = Arc::make_mut(values);
                // Whoever holds a copy of the old values may keep it; nobody else may find it.
                #[cfg(feature = "cuda")]
                std::mem::take(&mut values.copy);
                &mut values.values
            }
            #[cfg(feature = "cuda")]
            _ => panic!("invariant: values on a GPU are not changed in place by the processor"),
        }
    }

    pub(super) fn edit(&mut self, change: impl FnOnce(&mut [f32]) -> Result<()>) -> Result<()> {
        match self {
            Self::Host(_) => change(self.host_mut()),
            #[cfg(feature = "cuda")]
            Self::Frozen(values, copy) => {
                let mut changed = values.values.clone();
                change(&mut changed)?;
                *self = Self::new(changed).on(copy.gpu())?;
                Ok(())
            }
            #[cfg(feature = "cuda")]
            Self::Trained(trained) => {
                let mut changed = trained.download()?;
                change(&mut changed)?;
                *trained = Trained::new(trained.gpu(), &changed)?;
                Ok(())
            }
        }
    }

    pub(super) fn downgrade(&self) -> Option<WeakStorage> {
        match self {
            Self::Host(values) => Some(WeakStorage(Arc::downgrade(values))),
            #[cfg(feature = "cuda")]
            Self::Frozen(values, _) => Some(WeakStorage(Arc::downgrade(values))),
            #[cfg(feature = "cuda")]
            Self::Trained(_) => None,
        }
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Host(a), Self::Host(b)) => Arc::ptr_eq(a, b),
            #[cfg(feature = "cuda")]
            (Self::Frozen(_, a), Self::Frozen(_, b)) => Arc::ptr_eq(a, b),
            #[cfg(feature = "cuda")]
            (Self::Trained(a), Self::Trained(b)) => a.is(b),
            #[cfg(feature = "cuda")]
            _ => false,
        }
    }

    pub(super) fn to(&self, device: &Device) -> Result<Self> {
        match device {
            Device::Cpu => Ok(match self {
                Self::Host(_) => self.clone(),
                #[cfg(feature = "cuda")]
                Self::Frozen(values, _) => Self::Host(values.clone()),
                #[cfg(feature = "cuda")]
                Self::Trained(trained) => Self::new(trained.download()?),
            }),
            #[cfg(feature = "cuda")]
            Device::Cuda(gpu) => self.on(gpu),
        }
    }
}

#[cfg(feature = "cuda")]
mod on_gpu {
    use std::sync::{Arc, PoisonError};

    use super::Storage;
    use crate::device::{Buffer, Dtype, Gpu, Real, View, ViewMut, mixed};
    use crate::error::Result;

    /// What passes read.
    pub(crate) type Copied = Buffer<Real>;

    /// Values that are trained on a GPU.
    #[derive(Clone, Debug)]
    pub(crate) struct Trained {
        /// f32; `None` where the device's dtype is f32, for then `copy` is it.
        master: Option<Arc<Buffer<f32>>>,
        copy: Arc<Copied>,
    }

    /// Trained values, to be changed.
    pub(crate) struct TrainedMut<'a> {
        /// The master copy.
        pub(crate) master: ViewMut<'a, f32>,
        /// What passes read, where it is not the same.
        pub(crate) copy: Option<ViewMut<'a, Real>>,
    }

    impl Trained {
        pub(super) fn new(gpu: &Arc<Gpu>, values: &[f32]) -> Result<Self> {
            Ok(Self {
                master: match gpu.dtype() {
                    Dtype::F32 => None,
                    Dtype::Bf16 => Some(Arc::new(Buffer::upload(gpu, values)?)),
                },
                copy: Arc::new(Buffer::upload_real(gpu, values)?),
            })
        }

        pub(super) fn gpu(&self) -> &Arc<Gpu> {
            self.copy.gpu()
        }

        pub(super) fn len(&self) -> usize {
            self.copy.len()
        }

        pub(super) fn is(&self, other: &Self) -> bool {
            Arc::ptr_eq(&self.copy, &other.copy)
        }

        pub(super) fn download(&self) -> Result<Vec<f32>> {
            match &self.master {
                Some(master) => master.download(),
                None => self.copy.download_real(),
            }
        }

        /// To be changed; clones keep what they have.
        fn write(&mut self) -> Result<TrainedMut<'_>> {
            own(&mut self.copy)?;
            if let Some(master) = &mut self.master {
                own(master)?;
            }
            let only = "invariant: it was just made the only one";
            let copy = Arc::get_mut(&mut self.copy).expect(only).view_mut();
            Ok(match &mut self.master {
                Some(master) => TrainedMut {
                    master: Arc::get_mut(master).expect(only).view_mut(),
                    copy: Some(copy),
                },
                None => TrainedMut {
                    master: copy.into_f32(),
                    copy: None,
                },
            })
        }
    }

    fn own<T: crate::device::Stored>(buffer: &mut Arc<Buffer<T>>) -> Result<()> {
        if Arc::get_mut(buffer).is_none() {
            *buffer = Arc::new(buffer.duplicate()?);
        }
        Ok(())
    }

    impl Storage {
        pub(super) fn on(&self, gpu: &Arc<Gpu>) -> Result<Self> {
            match self {
                Self::Host(values) => {
                    let mut found = values.copy.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some(copy) = found.upgrade().filter(|c| Arc::ptr_eq(c.gpu(), gpu)) {
                        return Ok(Self::Frozen(values.clone(), copy));
                    }
                    let copy = Arc::new(Buffer::upload_real(gpu, &values.values)?);
                    *found = Arc::downgrade(&copy);
                    Ok(Self::Frozen(values.clone(), copy))
                }
                Self::Frozen(values, copy) if !Arc::ptr_eq(copy.gpu(), gpu) => {
                    Self::Host(values.clone()).on(gpu)
                }
                Self::Trained(trained) if !Arc::ptr_eq(trained.gpu(), gpu) => {
                    Self::new(trained.download()?).on(gpu)
                }
                Self::Frozen(..) | Self::Trained(_) => Ok(self.clone()),
            }
        }

        /// What passes on this device read.
        pub(in crate::model) fn read_on(&self, gpu: &Arc<Gpu>) -> Result<View<'_, Real>> {
            match self {
                Self::Frozen(_, copy) if Arc::ptr_eq(copy.gpu(), gpu) => Ok(copy.view()),
                Self::Trained(trained) if Arc::ptr_eq(trained.gpu(), gpu) => {
                    Ok(trained.copy.view())
                }
                _ => Err(mixed("parameters and the pass that reads them")),
            }
        }

        /// A copy of the f32 values.
        pub(in crate::model) fn values_on(&self, gpu: &Arc<Gpu>) -> Result<Buffer<f32>> {
            match self {
                Self::Trained(trained) if Arc::ptr_eq(trained.gpu(), gpu) => {
                    let mut copy = Buffer::new(gpu, trained.len())?;
                    let from = match &trained.master {
                        Some(master) => master.view(),
                        None => trained.copy.view().as_f32(),
                    };
                    copy.view_mut().copy_from(gpu, from)?;
                    Ok(copy)
                }
                _ => Buffer::upload(gpu, &self.values()?),
            }
        }

        /// To be trained on this device, from now on there alone.
        pub(crate) fn train_on(&mut self, gpu: &Arc<Gpu>) -> Result<TrainedMut<'_>> {
            if let Self::Frozen(values, _) = self {
                *self = Self::Trained(Trained::new(gpu, &values.values)?);
            }
            match self {
                Self::Trained(trained) if Arc::ptr_eq(trained.gpu(), gpu) => trained.write(),
                _ => Err(mixed("parameters and their optimizer")),
            }
        }
    }
}
