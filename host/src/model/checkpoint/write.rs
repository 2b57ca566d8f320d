//! Writing a Hugging Face folder: one model.safetensors, or shards of a limited size with an index.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{Device, Tensor};
use serde_json::json;

use super::{CONFIG, INDEX, WEIGHTS};
use crate::error::{Error, Result};
use crate::pipeline::atomic::write_atomic;

/// The most bytes of weights in one file: 5 GB, what transformers wrote for years. A tensor that is larger gets a file
/// of its own.
const SHARD_BYTES: usize = 5_000_000_000;

/// Writes weights and config.json into `dir`, which is created where it is missing.
pub(in crate::model) fn save(
    dir: &Path,
    config: &str,
    tensors: Vec<(String, Tensor)>,
) -> Result<()> {
    save_sharded(dir, config, tensors, SHARD_BYTES)
}

/// [`save`] with at most `limit` bytes of weights in a file. Weights of an earlier save that no longer belong to the
/// model are removed before config.json says that the folder is complete.
pub(super) fn save_sharded(
    dir: &Path,
    config: &str,
    tensors: Vec<(String, Tensor)>,
    limit: usize,
) -> Result<()> {
    let total: usize = tensors.iter().map(|(_, tensor)| bytes(tensor)).sum();
    let shards = split(tensors, limit);
    let mut written = Vec::new();
    if let [all] = shards.as_slice() {
        write_weights(dir, WEIGHTS, all)?;
        written.push(WEIGHTS.to_owned());
    } else {
        let mut weight_map = BTreeMap::new();
        for (number, shard) in shards.iter().enumerate() {
            let name = format!("model-{:05}-of-{:05}.safetensors", number + 1, shards.len());
            write_weights(dir, &name, shard)?;
            weight_map.extend(
                shard
                    .iter()
                    .map(|(tensor, _)| (tensor.clone(), name.clone())),
            );
            written.push(name);
        }
        let index = json!({ "metadata": { "total_size": total }, "weight_map": weight_map });
        write_atomic(&dir.join(INDEX), format!("{index:#}\n").as_bytes())?;
        written.push(INDEX.to_owned());
    }
    remove_others(dir, &written)?;
    write_atomic(&dir.join(CONFIG), config.as_bytes())
}

/// The tensors in their order, in as few consecutive groups of at most `limit` bytes as that order allows; at least one.
fn split(tensors: Vec<(String, Tensor)>, limit: usize) -> Vec<Vec<(String, Tensor)>> {
    let mut shards = vec![Vec::new()];
    let mut filled = 0;
    for (name, tensor) in tensors {
        let size = bytes(&tensor);
        if filled > 0 && filled + size > limit {
            shards.push(Vec::new());
            filled = 0;
        }
        filled += size;
        if let Some(shard) = shards.last_mut() {
            shard.push((name, tensor));
        }
    }
    shards
}

fn bytes(tensor: &Tensor) -> usize {
    tensor.elem_count() * tensor.dtype().size_in_bytes()
}

/// Writes tensors into one safetensors file, whole or not at all.
pub(in crate::model) fn write_weights(
    dir: &Path,
    name: &str,
    tensors: &[(String, Tensor)],
) -> Result<()> {
    let tensors = tensors
        .iter()
        .map(|(name, tensor)| Ok((name, tensor.to_device(&Device::Cpu)?.contiguous()?)))
        .collect::<Result<Vec<_>>>()?;
    // transformers refuses files that do not say which framework's layout they have.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let bytes = safetensors::serialize(tensors, Some(metadata))
        .map_err(|error| Error::internal(format!("cannot serialise the weights: {error}")))?;
    write_atomic(&dir.join(name), &bytes)
}

/// Removes weight files that are not among `written`: a reader that finds model.safetensors does not look at an index.
fn remove_others(dir: &Path, written: &[String]) -> Result<()> {
    let entries = std::fs::read_dir(dir).map_err(|error| Error::io("read", dir, &error))?;
    for entry in entries {
        let entry = entry.map_err(|error| Error::io("read", dir, &error))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let ours = name == WEIGHTS || name == INDEX || is_shard(&name);
        if ours && !written.contains(&name) {
            let path = entry.path();
            std::fs::remove_file(&path).map_err(|error| Error::io("remove", &path, &error))?;
        }
    }
    Ok(())
}

/// `model-00001-of-00002.safetensors`, with any numbers of five digits.
fn is_shard(name: &str) -> bool {
    let numbers = name
        .strip_prefix("model-")
        .and_then(|rest| rest.strip_suffix(".safetensors"))
        .and_then(|numbers| numbers.split_once("-of-"));
    let number = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    numbers.is_some_and(|(first, second)| number(first) && number(second))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{CausalLm, fixture};

    fn files(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(dir)
            .expect("a folder")
            .map(|entry| {
                entry
                    .expect("an entry")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        names.sort();
        names
    }

    #[test]
    fn shards_hold_no_more_than_the_limit_and_read_back_to_the_bit() -> Result<()> {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let model = fixture::model(false)?;
        let config = model.config().to_json("ForCausalLM");
        let weights = model.weights().tensors()?;
        let total: usize = weights.iter().map(|(_, tensor)| bytes(tensor)).sum();
        let largest = weights
            .iter()
            .map(|(_, tensor)| bytes(tensor))
            .max()
            .unwrap_or(0);
        // The last limit is below the largest tensor, which then has a file of its own.
        for limit in [total, total - 1, 3000, largest - 1] {
            save_sharded(dir.path(), &config, weights.clone(), limit)?;
            let again = CausalLm::load(dir.path())?;
            for ((name, read), (_, kept)) in again.weights().tensors()?.iter().zip(&weights) {
                let values = |tensor: &Tensor| tensor.flatten_all()?.to_vec1::<f32>();
                assert_eq!(values(read)?, values(kept)?, "{name}");
            }
            let files = files(dir.path());
            if limit == total {
                assert_eq!(files, [CONFIG, WEIGHTS]);
                continue;
            }
            let count = files.len() - 2;
            assert!(count > 1 && files.contains(&INDEX.to_owned()), "{files:?}");
            let mut stored = 0;
            for number in 1..=count {
                let file = dir
                    .path()
                    .join(format!("model-{number:05}-of-{count:05}.safetensors"));
                let tensors = candle_core::safetensors::load(&file, &Device::Cpu)?;
                let size: usize = tensors.values().map(bytes).sum();
                assert!(size <= limit || tensors.len() == 1, "{limit}: {size} bytes");
                stored += size;
            }
            assert_eq!(stored, total);
            let index = std::fs::read(dir.path().join(INDEX)).expect("an index");
            let index: serde_json::Value = serde_json::from_slice(&index).expect("JSON");
            assert_eq!(index["metadata"]["total_size"], total);
            assert_eq!(
                index["weight_map"].as_object().map(serde_json::Map::len),
                Some(weights.len())
            );
        }
        // Back to one file: the shards and the index are gone.
        save(dir.path(), &config, weights)?;
        assert_eq!(files(dir.path()), [CONFIG, WEIGHTS]);
        Ok(())
    }
}
