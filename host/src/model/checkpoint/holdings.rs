//! What a folder holds against what its config.json announces: a tensor that belongs to nothing is refused, because a model that
//! needs it would talk nonsense without it; and the head and the embedding table are found, whichever of two equal ones is there.

use std::collections::HashSet;
use std::path::Path;

use super::super::config::CausalLmConfig;
use super::super::description::{HEAD, TABLE};
use super::folder::Folder;
use crate::error::{Error, Result};

/// Buffers that older folders hold and that follow from config.json.
const BUFFERS: [&str; 3] = [
    "rotary_emb.inv_freq",
    "rotary_emb.cos_cached",
    "rotary_emb.sin_cached",
];

/// Heads that give one number instead of a distribution: a classifier's, and that of TRL's critics.
const SCALAR_HEADS: [&str; 2] = ["score.", "v_head."];

/// What quantised weights bring along.
const QUANTISED: [&str; 9] = [
    ".qweight",
    ".qzeros",
    ".scales",
    ".g_idx",
    ".absmax",
    ".quant_map",
    ".SCB",
    ".weight_scale",
    ".weight_scale_inv",
];

/// Refuses a tensor that a model of this configuration does not have. What is left out without harm is answered in words.
pub(super) fn check_names(
    dir: &Path,
    config: &CausalLmConfig,
    names: &[&str],
) -> Result<Option<String>> {
    let specs = config.specs();
    let known: HashSet<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
    let mut scalar_head = None;
    for name in names {
        if known.contains(name)
            || [TABLE, HEAD].contains(name)
            || BUFFERS.iter().any(|buffer| name.ends_with(buffer))
        {
            continue;
        }
        if SCALAR_HEADS.iter().any(|head| name.starts_with(head)) {
            scalar_head.get_or_insert(*name);
            continue;
        }
        let error = Error::input(format!(
            "{}: tensor {name:?} belongs to nothing in a model of the family {} with this configuration",
            dir.display(),
            config.family
        ));
        return Err(error.hint(why(name, config, &known)));
    }
    Ok(scalar_head.map(|name| {
        format!("tensor {name:?} is a head that gives a score; the language model does without it")
    }))
}

/// What a tensor of this name may be.
fn why(name: &str, config: &CausalLmConfig, known: &HashSet<&str>) -> String {
    if QUANTISED.iter().any(|end| name.ends_with(end)) {
        return "the weights are quantised; take the folder of the model before it was quantised, or a GGUF of it".into();
    }
    let layer = name
        .strip_prefix("model.layers.")
        .and_then(|rest| rest.split_once('.'))
        .and_then(|(layer, _)| layer.parse::<usize>().ok());
    let layers = config.num_hidden_layers;
    if layer.is_some_and(|layer| layer >= layers) {
        return format!(
            "config.json says num_hidden_layers is {layers}; do the files belong together?"
        );
    }
    let inner = name.match_indices('.').find_map(|(at, _)| {
        let inner = &name[at + 1..];
        known.contains(inner).then(|| &name[..=at])
    });
    if let Some(wrapper) = inner {
        return format!(
            "{wrapper:?} was put in front by what the model was wrapped in; save the model inside"
        );
    }
    if known.contains(format!("model.{name}").as_str()) {
        return "names begin with \"model.\" where the model has its head; save the whole model"
            .into();
    }
    "the family has no such parameter; do the files belong together?".into()
}

/// Makes sure that there is a table, and a head where the two are not one. safetensors keep one of two shared tensors, and which
/// name survives depends on the writer.
///
/// Where config.json ties the two and both are there with other values, the file is believed and the head is used, as
/// transformers 5 does: a training script wrote that head, and a flag that is forgotten loses nothing.
pub(super) fn settle_head(dir: &Path, folder: &mut Folder) -> Result<Option<String>> {
    let tied = folder.config().tie_word_embeddings;
    match (tied, folder.contains(TABLE), folder.contains(HEAD)) {
        (true, true, true) if !folder.same(TABLE, HEAD)? => {
            folder.untie();
            return Ok(Some(format!(
                "config.json says that the output head is the embedding table, and {HEAD:?} has other values: it is used as the \
                 head (tie_word_embeddings = false would say so)"
            )));
        }
        (true, false, true) => folder.also_call(HEAD, TABLE),
        // transformers' classifiers are saved without a head over the vocabulary.
        (false, true, false) if folder.contains("score.weight") => {
            folder.tie();
            return Ok(Some(format!(
                "there is no tensor {HEAD:?}, as in a classifier: the embedding table stands in for it"
            )));
        }
        (false, true, false) | (false, false, true) => {
            let (gone, there) = if folder.contains(TABLE) {
                (HEAD, TABLE)
            } else {
                (TABLE, HEAD)
            };
            return Err(Error::input(format!(
                "{} has no tensor {gone:?}, and tie_word_embeddings is not true in config.json, nor what it is without the key",
                dir.display()
            ))
            .hint(format!(
                "if the output head is the embedding table in this model, write \"tie_word_embeddings\": true into config.json, and \
                 {there:?} serves as both; if not, a weight file is missing"
            )));
        }
        _ => {}
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use candle_core::{DType, Device, Tensor};

    use crate::error::Result;
    use crate::model::checkpoint::{CONFIG, WEIGHTS};
    use crate::model::{CausalLm, ScoredModel, fixture};

    type Tensors = HashMap<String, Tensor>;

    /// The small model in a folder with `change` made to its tensors, and config.json as if it were `tied`.
    fn folder(
        (model, tied): (bool, bool),
        change: impl FnOnce(&mut Tensors),
    ) -> Result<(tempfile::TempDir, CausalLm)> {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let model = fixture::model(model)?;
        let mut tensors: Tensors = model.weights().tensors()?.into_iter().collect();
        change(&mut tensors);
        candle_core::safetensors::save(&tensors, dir.path().join(WEIGHTS))?;
        let mut config = model.config().clone();
        config.tie_word_embeddings = tied;
        let text = config.to_json("ForCausalLM");
        std::fs::write(dir.path().join(CONFIG), text).expect("written");
        Ok((dir, model))
    }

    fn hidden_and_head(model: &CausalLm) -> Result<(Vec<f32>, Vec<f32>)> {
        let hidden = model.hidden(&fixture::batch(), crate::model::Read::All)?;
        Ok((hidden, model.output_weight().to_vec()))
    }

    fn zeros(shape: &[usize]) -> Tensor {
        Tensor::zeros(shape, DType::F32, &Device::Cpu).expect("zeros")
    }

    #[test]
    fn a_tensor_that_belongs_to_nothing_is_refused_by_name() -> Result<()> {
        for (name, hint) in [
            ("model.layers.0.self_attn.q_proj.bias", "no such parameter"),
            ("model.layers.1.mlp.up_proj.bias", "no such parameter"),
            (
                "model.layers.0.self_attn.q_norm.weight",
                "no such parameter",
            ),
            (
                "model.layers.2.input_layernorm.weight",
                "num_hidden_layers is 2",
            ),
            ("model.layers.0.mlp.down_proj.qweight", "quantised"),
            ("model.layers.0.mlp.down_proj.weight.absmax", "quantised"),
            (
                "_orig_mod.model.norm.weight",
                "\"_orig_mod.\" was put in front",
            ),
            (
                "base_model.model.model.norm.weight",
                "\"base_model.model.\" was put in front",
            ),
            ("layers.0.mlp.up_proj.weight", "save the whole model"),
        ] {
            let (dir, _) = folder((true, true), |tensors| {
                tensors.insert(name.to_owned(), zeros(&[1]));
            })?;
            let error = CausalLm::load(dir.path()).expect_err(name);
            assert!(error.to_string().contains(name), "{error}");
            let said = error.hint_text().unwrap_or_default();
            assert!(said.contains(hint), "{name}: {said}");
            assert_eq!(error.exit_code(), 2);
        }
        Ok(())
    }

    #[test]
    fn buffers_and_a_copy_of_the_tied_head_pass_without_a_word() -> Result<()> {
        let (dir, model) = folder((true, true), |tensors| {
            for name in [
                "model.layers.0.self_attn.rotary_emb.inv_freq",
                "model.rotary_emb.inv_freq",
                "model.layers.1.self_attn.rotary_emb.cos_cached",
            ] {
                tensors.insert(name.to_owned(), zeros(&[3]));
            }
            let table = tensors["model.embed_tokens.weight"].clone();
            tensors.insert("lm_head.weight".to_owned(), table);
        })?;
        let read = CausalLm::load(dir.path())?;
        assert!(read.config().tie_word_embeddings && read.remarks().is_empty());
        assert_eq!(hidden_and_head(&read)?, hidden_and_head(&model)?);
        Ok(())
    }

    #[test]
    fn a_head_of_its_own_is_used_although_the_flag_says_tied() -> Result<()> {
        let (dir, model) = folder((false, true), |_| {})?;
        let read = CausalLm::load(dir.path())?;
        assert_eq!(hidden_and_head(&read)?, hidden_and_head(&model)?);
        let [remark] = read.remarks() else {
            panic!("{:?}", read.remarks());
        };
        assert!(remark.contains("lm_head.weight") && remark.contains("tie_word_embeddings"));
        // What is saved says what was used.
        let again = tempfile::tempdir().expect("a temporary folder");
        read.save(again.path())?;
        assert!(!CausalLm::load(again.path())?.config().tie_word_embeddings);
        Ok(())
    }

    #[test]
    fn of_two_tied_tensors_either_is_enough() -> Result<()> {
        let (dir, model) = folder((true, true), |tensors| {
            let table = tensors.remove("model.embed_tokens.weight").expect("there");
            tensors.insert("lm_head.weight".to_owned(), table);
        })?;
        let read = CausalLm::load(dir.path())?;
        assert_eq!(hidden_and_head(&read)?, hidden_and_head(&model)?);
        Ok(())
    }

    #[test]
    fn without_the_flag_a_missing_one_is_an_error_that_says_what_would_load() -> Result<()> {
        for (gone, there) in [
            ("lm_head.weight", "model.embed_tokens.weight"),
            ("model.embed_tokens.weight", "lm_head.weight"),
        ] {
            let (dir, _) = folder((false, false), |tensors| drop(tensors.remove(gone)))?;
            let error = CausalLm::load(dir.path()).expect_err(gone);
            let text = error.to_string();
            assert!(text.contains(&format!("no tensor {gone:?}")), "{text}");
            assert!(text.contains("tie_word_embeddings"), "{text}");
            let hint = error.hint_text().unwrap_or_default();
            assert!(hint.contains("\"tie_word_embeddings\": true") && hint.contains(there));
        }
        // With the flag, one of them has to be there.
        let (dir, _) = folder((true, true), |tensors| {
            drop(tensors.remove("model.embed_tokens.weight"));
        })?;
        let error = CausalLm::load(dir.path()).expect_err("no table");
        assert!(
            error
                .to_string()
                .contains("no tensor \"model.embed_tokens.weight\"")
        );
        Ok(())
    }

    #[test]
    fn a_classifier_as_transformers_saves_it_needs_no_head_over_the_vocabulary() -> Result<()> {
        let (dir, model) = folder((false, false), |tensors| {
            tensors.remove("lm_head.weight");
            tensors.insert("score.weight".to_owned(), zeros(&[1, 12]));
        })?;
        let read = ScoredModel::load(dir.path())?;
        let hidden = |model: &CausalLm| model.hidden(&fixture::batch(), crate::model::Read::All);
        assert_eq!(hidden(&read.backbone)?, hidden(&model)?);
        let remarks = CausalLm::load(dir.path())?.remarks().join("\n");
        assert!(
            remarks.contains("score.weight") && remarks.contains("lm_head.weight"),
            "{remarks}"
        );
        Ok(())
    }
}
