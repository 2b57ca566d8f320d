//! Sets of parameters on a GPU: who shares what, and for how long.

use finegrain_sdk::rng::Stream;

use super::*;
use crate::model::{LoraConfig, ParameterSet, fixture};
use crate::ops::gradient_check::with_gpus;

const VALUES: [f32; 5] = [0.1, -0.2, 3.0, 1e-3, 7.0];

fn set() -> Result<ParameterSet> {
    ParameterSet::new([("a".to_owned(), vec![5])], |_, _| Ok(VALUES.to_vec()))
}

#[test]
fn clones_share_until_one_is_trained() -> Result<()> {
    with_gpus(|gpu| {
        let device = Device::Cuda(gpu.clone());
        let host = set()?;
        let mut one = host.to(&device)?;
        assert!(
            one.shares_memory_with(&host.to(&device)?),
            "one copy serves all"
        );
        let clone = one.clone();
        assert!(clone.shares_memory_with(&one));
        one.train_on(gpu)?.master.fill(gpu, &[1.0; 5])?;
        assert!(!clone.shares_memory_with(&one));
        assert_eq!(
            (one.values()?[..].to_vec(), clone.values()?[..].to_vec()),
            (vec![1.0; 5], VALUES.to_vec())
        );
        // Of two clones of a trained set, the one that goes on leaves the other.
        let kept = one.clone();
        assert!(kept.shares_memory_with(&one));
        one.train_on(gpu)?.master.fill(gpu, &[2.0; 5])?;
        assert!(!kept.shares_memory_with(&one));
        assert_eq!((kept.values()?[0], one.values()?[0]), (1.0, 2.0));
        Ok(())
    })
}

#[test]
fn edits_and_ways_back_keep_f32() -> Result<()> {
    with_gpus(|gpu| {
        let device = Device::Cuda(gpu.clone());
        for trained in [false, true] {
            let mut set = set()?.to(&device)?;
            if trained {
                set.train_on(gpu)?;
            }
            let clone = set.clone();
            set.edit(|values| {
                values[1] = 0.3;
                Ok(())
            })?;
            let mut expected = VALUES;
            expected[1] = 0.3;
            assert!(set.device().is_cuda());
            assert_eq!(
                (&set.values()?[..], &clone.values()?[..]),
                (&expected[..], &VALUES[..])
            );
            let read = set.storage.read_on(gpu)?.download_real(gpu)?;
            let rounded = crate::ops::gradient_check::rounded(gpu, &expected.map(f64::from));
            assert_eq!(read, rounded, "what passes read changes with it");
            let back = set.to(&Device::Cpu)?;
            assert!(!back.device().is_cuda());
            assert_eq!(back.values()?[..], expected);
            assert_eq!(back.to(&device)?.values()?[..], expected);
            let error = set.edit(|_| Err(crate::error::Error::input("no")));
            assert!(error.is_err());
            assert_eq!(set.values()?[..], expected);
        }
        Ok(())
    })
}

/// Values that change on the processor are not those that a device has a copy of.
#[test]
fn a_changed_set_is_not_served_an_old_copy() -> Result<()> {
    with_gpus(|gpu| {
        let device = Device::Cuda(gpu.clone());
        let mut host = set()?;
        let old = host.to(&device)?;
        host.host_mut()[0] = 5.0;
        let new = host.to(&device)?;
        assert!(!new.shares_memory_with(&old));
        assert_eq!(new.storage.read_on(gpu)?.download_real(gpu)?[0], 5.0);
        assert_eq!(old.values()?[0], 0.1);
        Ok(())
    })
}

#[test]
fn adapters_on_one_base_share_it() -> Result<()> {
    with_gpus(|gpu| {
        let device = Device::Cuda(gpu.clone());
        let base = fixture::model(true)?;
        let adapted = |seed| {
            let model = base.with_lora(&LoraConfig::default(), &Stream::new(seed))?;
            model.to(&device)
        };
        let (one, mut two) = (adapted(1)?, adapted(2)?);
        assert!(one.weights().device().is_cuda());
        assert!(one.weights().shares_memory_with(two.weights()));
        assert!(!one.parameters().shares_memory_with(two.parameters()));
        two.parameters_mut().train_on(gpu)?;
        assert!(
            one.weights().shares_memory_with(two.weights()),
            "training an adapter leaves the base"
        );
        Ok(())
    })
}

#[test]
fn a_set_on_the_processor_is_no_set_of_the_device() -> Result<()> {
    with_gpus(|gpu| {
        let mut host = set()?;
        assert!(host.storage.read_on(gpu).is_err());
        assert!(host.train_on(gpu).is_err());
        Ok(())
    })
}
