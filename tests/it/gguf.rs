//! GGUF files against what they were made of, against gguf-py, llama.cpp and transformers, and back out as a folder.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use candle_core::quantized::gguf_file::{self, Content, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use finegrain::Result;
use finegrain::data::chat::{Message, Role};
use finegrain::data::gguf::Gguf;
use finegrain::data::ragged::TokenBatch;
use finegrain::data::tokenizer::Tokenizer;
use finegrain::model::{self, CausalLm, Read, RoundingEffect, Sampling, SamplingWeights};
use finegrain_sdk::rng::Stream;
use finegrain_tests::shared;

use crate::python::python;

static GO: AtomicBool = AtomicBool::new(false);

fn write(path: &Path, metadata: &[(&str, Value)], tensors: &[(String, QTensor)]) -> Result<()> {
    let metadata: Vec<_> = metadata.iter().map(|(key, value)| (*key, value)).collect();
    let tensors: Vec<_> = tensors
        .iter()
        .map(|(name, tensor)| (name.as_str(), tensor))
        .collect();
    gguf_file::write(&mut File::create(path).unwrap(), &metadata, &tensors)?;
    Ok(())
}

/// Numbers in the order of a file.
struct Reader(std::vec::IntoIter<u8>);

impl Reader {
    fn open(path: &Path) -> Self {
        Self(std::fs::read(path).unwrap().into_iter())
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.0.next().unwrap())
    }

    fn int(&mut self) -> usize {
        i32::from_le_bytes(self.bytes()).try_into().unwrap()
    }

    fn float(&mut self) -> f32 {
        f32::from_le_bytes(self.bytes())
    }

    fn tensor(&mut self, shape: &[usize]) -> Result<QTensor> {
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| self.float()).collect();
        let tensor = Tensor::from_vec(values, shape, &Device::Cpu)?;
        Ok(QTensor::quantize(&tensor, GgmlDType::F32)?)
    }
}

/// llama2.c's files of the model that also lies in shared/models/stories260k as a Hugging Face folder, as one GGUF. Both
/// llama2.c and llama.cpp turn neighbouring channels: the rows of `wq` and `wk` are in GGUF's order already.
fn stories_as_gguf(from: &Path, to: &Path) -> Result<()> {
    let mut file = Reader::open(&from.join("stories260K.bin"));
    let [c, f, layers, heads, kv_heads, vocab, positions] = std::array::from_fn(|_| file.int());
    let kv = c / heads * kv_heads;
    let mut tensors = vec![("token_embd.weight".to_owned(), file.tensor(&[vocab, c])?)];
    let of_layers: [(&str, &[usize]); 9] = [
        ("attn_norm", &[c]),
        ("attn_q", &[c, c]),
        ("attn_k", &[kv, c]),
        ("attn_v", &[kv, c]),
        ("attn_output", &[c, c]),
        ("ffn_norm", &[c]),
        ("ffn_gate", &[f, c]),
        ("ffn_down", &[c, f]),
        ("ffn_up", &[f, c]),
    ];
    for (name, shape) in of_layers {
        for layer in 0..layers {
            tensors.push((format!("blk.{layer}.{name}.weight"), file.tensor(shape)?));
        }
    }
    tensors.push(("output_norm.weight".to_owned(), file.tensor(&[c])?));

    let mut file = Reader::open(&from.join("tok512.bin"));
    file.int(); // the length of the longest token
    let (mut tokens, mut scores, mut kinds) = (Vec::new(), Vec::new(), Vec::new());
    for id in 0..vocab {
        scores.push(Value::F32(file.float()));
        let length = file.int();
        let bytes: Vec<u8> = (0..length).map(|_| file.0.next().unwrap()).collect();
        // llama2.c writes spaces for the mark ▁, and line breaks around the names of the control tokens.
        let text = String::from_utf8(bytes).unwrap();
        tokens.push(Value::String(match id {
            0..3 => ["<unk>", "<s>", "</s>"][id].to_owned(),
            _ => text.replace(' ', "▁"),
        }));
        kinds.push(Value::I32(match id {
            0 => 2,
            1 | 2 => 3,
            3..259 => 6,
            _ => 1,
        }));
    }
    let number = |size: usize| Value::U32(size as u32);
    let metadata = [
        ("general.architecture", Value::String("llama".into())),
        ("llama.block_count", number(layers)),
        ("llama.context_length", number(positions)),
        ("llama.embedding_length", number(c)),
        ("llama.feed_forward_length", number(f)),
        ("llama.attention.head_count", number(heads)),
        ("llama.attention.head_count_kv", number(kv_heads)),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
        ("tokenizer.ggml.model", Value::String("llama".into())),
        ("tokenizer.ggml.tokens", Value::Array(tokens)),
        ("tokenizer.ggml.scores", Value::Array(scores)),
        ("tokenizer.ggml.token_type", Value::Array(kinds)),
        ("tokenizer.ggml.bos_token_id", number(1)),
        ("tokenizer.ggml.eos_token_id", number(2)),
    ];
    write(to, &metadata, &tensors)
}

#[test]
fn a_model_of_interleaved_channels_is_the_one_of_halves_to_the_bit() -> Result<()> {
    let (Some(from), Some(folder)) = (
        shared("data/model_stories260K"),
        shared("models/stories260k"),
    ) else {
        return Ok(());
    };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("stories.gguf");
    stories_as_gguf(&from, &file)?;
    let (read, kept) = (CausalLm::load(&file)?, CausalLm::load(&folder)?);
    assert_eq!(read.config(), kept.config());
    for entry in kept.weights().entries() {
        let name = &entry.name;
        assert_eq!(
            read.weights().get(name)?,
            kept.weights().get(name)?,
            "{name}"
        );
    }

    let (read, kept) = (Tokenizer::load(&file)?, Tokenizer::load(&folder)?);
    assert_eq!((read.bos(), read.eos(), read.vocab_size()), (1, 2, 512));
    for text in [
        "Once upon a time, there was a little girl named Lily.",
        "  two  spaces\nand a line\tbreak ",
        "naïve 日本語 😀 1234",
        "<s>a</s> b<unk>",
        "",
        " ",
    ] {
        assert_eq!(read.encode(text)?, kept.encode(text)?, "{text:?}");
        assert_eq!(
            read.encode_prompt(text)?,
            kept.encode_prompt(text)?,
            "{text:?}"
        );
        let ids = kept.encode(text)?;
        assert_eq!(read.decode(&ids)?, kept.decode(&ids)?, "{text:?}");
    }
    let story = |path: &Path| {
        model::complete(
            path,
            "Once upon a time",
            &Sampling::greedy(40, vec![]),
            1,
            &GO,
        )
    };
    assert_eq!(story(&file)?, story(&folder)?);
    Ok(())
}

/// Every storage type against gguf-py: block by block the same formula in f32, so the same up to a rounding.
#[test]
fn every_storage_type_has_the_values_of_gguf_py() -> Result<()> {
    let types = [
        GgmlDType::F32,
        GgmlDType::F16,
        GgmlDType::BF16,
        GgmlDType::Q4_0,
        GgmlDType::Q4_1,
        GgmlDType::Q5_0,
        GgmlDType::Q5_1,
        GgmlDType::Q8_0,
        GgmlDType::Q2K,
        GgmlDType::Q3K,
        GgmlDType::Q4K,
        GgmlDType::Q5K,
        GgmlDType::Q6K,
    ];
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("types.gguf");
    let values = (0..4 * 512).map(|i| ((i * i) as f32 * 0.37).sin() * (1.0 + (i % 7) as f32));
    let original = Tensor::from_iter(values, &Device::Cpu)?.reshape((4, 512))?;
    let tensors = types
        .iter()
        .map(|kind| Ok((format!("{kind:?}"), QTensor::quantize(&original, *kind)?)))
        .collect::<Result<Vec<_>>>()?;
    write(&file, &[], &tensors)?;
    let read = Gguf::open(&file)?;
    let original = original.flatten_all()?.to_vec1::<f32>()?;
    let mut ours = BTreeMap::new();
    for (name, _) in &tensors {
        let tensor = read.tensor(name, &Device::Cpu)?;
        assert_eq!(tensor.dims(), [4, 512]);
        let values = tensor.flatten_all()?.to_vec1::<f32>()?;
        // Four levels between -7 and 7 are the coarsest: half a step is 2.4, and the step is itself rounded.
        let apart = values.iter().zip(&original).map(|(a, b)| (a - b).abs());
        assert!(apart.fold(0.0, f32::max) < 3.0, "{name}");
        ours.insert(name.clone(), values);
    }
    let Some(theirs) = python("gguf_values.py", [&file], None) else {
        return Ok(());
    };
    let theirs: BTreeMap<String, Vec<f32>> = serde_json::from_value(theirs).unwrap();
    assert_eq!(theirs.len(), types.len());
    for (name, expected) in &theirs {
        assert_close(&ours[name], expected, 2e-6, name);
    }
    Ok(())
}

/// SmolLM2-135M-Instruct: what `FINEGRAIN_SMOLLM2` names, or where shared/models/smollm2 leaves it.
pub(crate) fn smollm2() -> Option<PathBuf> {
    let home = || {
        let cache = std::env::home_dir()?.join(".cache/smollm2-135m");
        Some(cache.join("SmolLM2-135M-Instruct.Q4_1.gguf"))
    };
    let named = std::env::var_os("FINEGRAIN_SMOLLM2").map(PathBuf::from);
    let found = named.or_else(home).filter(|path| path.is_file());
    if found.is_none() {
        eprintln!(
            "skipped: FINEGRAIN_SMOLLM2 names no SmolLM2 GGUF; shared/models/smollm2 fetches it"
        );
    }
    found
}

fn question(text: &str) -> Vec<Message> {
    vec![Message::new(Role::User, text)]
}

#[test]
fn a_real_chat_model_answers_a_question() -> Result<()> {
    let Some(file) = smollm2() else { return Ok(()) };
    let sampling = Sampling::greedy(40, vec![]);
    let answer = |conversation: &[Message]| model::answer(&file, conversation, &sampling, 1, &GO);
    let asked = question("What is the capital of France?");
    assert_eq!(answer(&asked)?.text, "The capital of France is Paris.");
    Ok(())
}

/// Expected: `tests/scripts/llama_cpp_ids.py`.
#[test]
fn pre_tokenizers_cut_as_llama_cpp_does() -> Result<()> {
    const TEXTS: [&str; 2] = [
        "Hello I'M we've 12345 ½ x²  tabs\t\n\n  naïve 日本語 😀🏽 !!?\r\n end  ",
        "don't  DON'T 2024-11-24 foo_bar(x)==y;\n\n\tz",
    ];
    /// Between the number and the tabs, and behind them, the three differ.
    fn first(middle: &[u32], breaks: &[u32]) -> Vec<u32> {
        let start = [19556, 339, 23, 61, 392, 3543, 216, 33, 34, 35, 36, 37];
        let end = [
            15486, 46494, 17097, 241, 115, 40993, 179, 120, 248, 40303, 218, 10813, 233, 138, 5728,
            17, 47, 2738, 1112, 256,
        ];
        [
            &start,
            middle,
            &[1792, 19133, 216, 29416, 197],
            breaks,
            &end,
        ]
        .concat()
    }
    let second = [
        12420, 982, 216, 422, 2154, 23, 68, 216, 34, 32, 34, 36, 29, 33, 33, 29, 34, 36, 29856, 79,
        6299, 24, 104, 47004, 105, 43, 1116, 197, 106,
    ];
    let Some(file) = smollm2() else { return Ok(()) };
    let content = Content::read(&mut File::open(file).unwrap())?;
    let dir = tempfile::tempdir().unwrap();
    for (name, expected) in [
        ("gpt-2", first(&[3351, 138], &[8866])),
        ("smollm", first(&[216, 16738], &[8866])),
        ("llama-bpe", first(&[216, 16738], &[1116, 216])),
    ] {
        let mut metadata = content.metadata.clone();
        metadata.insert("tokenizer.ggml.pre".into(), Value::String(name.into()));
        let metadata: Vec<_> = metadata
            .iter()
            .map(|(key, value)| (key.as_str(), value.clone()))
            .collect();
        let path = dir.path().join("tokenizer.gguf");
        write(&path, &metadata, &[])?;
        let tokenizer = Tokenizer::load(&path)?;
        assert_eq!(tokenizer.encode(TEXTS[0])?, expected, "{name}");
        assert_eq!(tokenizer.encode(TEXTS[1])?, second, "{name}");
    }
    let error = |name: &str| -> Result<String> {
        let mut metadata = content.metadata.clone();
        metadata.insert("tokenizer.ggml.pre".into(), Value::String(name.into()));
        let metadata: Vec<_> = metadata
            .iter()
            .map(|(key, value)| (key.as_str(), value.clone()))
            .collect();
        let path = dir.path().join("tokenizer.gguf");
        write(&path, &metadata, &[])?;
        Ok(Tokenizer::load(&path).err().unwrap().to_string())
    };
    let text = error("tekken")?;
    assert!(
        text.contains("\"tekken\"") && text.contains("llama-bpe"),
        "{text}"
    );
    Ok(())
}

/// Texts of people, from all of the shared data that is there.
fn prompts() -> Vec<String> {
    let files = [
        ("self_instruct_prompts/seed_tasks.jsonl", "instruction"),
        ("alpacaeval_davinci003/prompts.jsonl", "instruction"),
        ("halueval_general/general.jsonl", "user_query"),
        ("cad_nli/dev.jsonl", "premise"),
        ("qa_feedback/dev_feedback.jsonl", "question"),
        ("paradetox/paradetox.jsonl", "toxic"),
        ("cad_imdb/dev.jsonl", "positive"),
    ];
    let mut prompts = Vec::new();
    for (file, key) in files {
        let Some(path) = shared(&format!("data/{file}")) else {
            continue;
        };
        for line in std::fs::read_to_string(path).unwrap().lines() {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            prompts.push(row[key].as_str().unwrap().to_owned());
        }
    }
    prompts
}

/// Loaded from the GGUF here and there, and saved here and loaded there: the same ids, the same logits within 2e-3 (f32
/// sums over 30 layers in another order; the logits lie between -20 and 30). transformers 5.23 does not know the
/// pre-tokenizer `smollm` and cuts as GPT-2 does, which differs from llama.cpp on 4 of the 15751 texts; the script gives
/// it the digits that stand alone, and with them the ids of all texts are llama.cpp's.
#[test]
fn transformers_agrees_on_the_file_and_on_the_folder_saved_of_it() -> Result<()> {
    let Some(file) = smollm2() else { return Ok(()) };
    let (model, tokenizer) = (CausalLm::load(&file)?, Tokenizer::load(&file)?);
    let dir = tempfile::tempdir().unwrap();
    model.save(dir.path())?;
    tokenizer.save(dir.path())?;
    let again = Tokenizer::load(dir.path())?;
    let mut conversation = vec![Message::new(Role::System, "You answer in one word.")];
    conversation.extend(question("What is the capital of France?"));
    let ids = tokenizer.encode_chat(&conversation)?;
    assert_eq!(again.encode_chat(&conversation)?, ids);

    let texts = prompts();
    let asked = serde_json::json!({ "texts": texts, "messages": conversation });
    let Some(seen) = python("gguf_model.py", [file.as_path(), dir.path()], Some(&asked)) else {
        return Ok(());
    };
    let mut batch = TokenBatch::new();
    batch.push(&ids, &[]);
    let mut logits = model.logits(&batch, Read::All)?;
    let logits = logits.pop().expect("a row for every token");
    for source in ["gguf", "folder"] {
        let seen = &seen[source];
        let lists =
            |key: &str| -> Vec<Vec<u32>> { serde_json::from_value(seen[key].clone()).unwrap() };
        for (text, expected) in texts.iter().zip(lists("ids")) {
            assert_eq!(
                tokenizer.encode_prompt(text)?,
                expected,
                "{source}: {text:?}"
            );
        }
        let chat: Vec<u32> = serde_json::from_value(seen["chat"].clone()).unwrap();
        assert_eq!(chat, ids, "{source}");
        let expected: Vec<f32> = serde_json::from_value(seen["logits"].clone()).unwrap();
        let apart = assert_close(&logits, &expected, 2e-3, source);
        eprintln!(
            "{source}: {} texts, logits at most {apart:e} apart",
            texts.len()
        );
    }
    Ok(())
}

/// Sampling draws the same rows from the file and from the folder saved of it.
#[test]
fn a_saved_copy_of_a_gguf_generates_the_same() -> Result<()> {
    let Some(file) = smollm2() else { return Ok(()) };
    let model = CausalLm::load(&file)?;
    let tokenizer = Tokenizer::load(&file)?;
    let dir = tempfile::tempdir().unwrap();
    model.save(dir.path())?;
    let again = CausalLm::load(dir.path())?;
    assert_eq!(again.config(), model.config());
    let prompt = vec![tokenizer.encode_chat(&question("Name a bird."))?];
    let sampling = Sampling::at_temperature(0.8, 12, vec![tokenizer.eos()]);
    let rows = |model: &CausalLm| model::generate(model, &prompt, &sampling, &Stream::new(4), &GO);
    assert_eq!(rows(&again)?, rows(&model)?);
    Ok(())
}

/// What sampling with rounded weights does to the log-probabilities of a real model's tokens: the figures of
/// docs/performance.md, which `--nocapture` prints. The bounds are several times what was measured.
#[test]
fn rounded_weights_hardly_move_a_real_model() -> Result<()> {
    let Some(file) = smollm2() else { return Ok(()) };
    let model = CausalLm::load(&file)?;
    let tokenizer = Tokenizer::load(&file)?;
    let prompts = [
        "What is the capital of France?",
        "Name three birds.",
        "Why is the sky blue?",
        "Write a line about the sea.",
        "How do I boil an egg?",
        "Tell me a short story about a dog.",
        "What is 12 times 12?",
        "Translate 'good morning' into Spanish.",
    ];
    let prompts = prompts
        .iter()
        .map(|text| tokenizer.encode_chat(&question(text)))
        .collect::<Result<Vec<_>>>()?;
    for (weights, mean, max) in [
        (SamplingWeights::F32, 1e-4, 1e-3),
        (SamplingWeights::Bf16, 0.05, 0.5),
        (SamplingWeights::Q8, 0.1, 1.0),
    ] {
        let sampling = Sampling {
            weights,
            ..Sampling::at_temperature(1.0, 32, vec![tokenizer.eos()])
        };
        let rows = model::generate(&model, &prompts, &sampling, &Stream::new(4), &GO)?;
        let effect = RoundingEffect::measure(&model, &prompts, &rows, 1.0)?.unwrap();
        eprintln!("{weights}: {effect}; KL {:.2e} nats a token", effect.kl);
        assert!(effect.mean < mean && effect.max < max, "{effect}");
        assert_eq!(effect.mean > 1e-4, weights.rounds(), "{effect}");
    }
    Ok(())
}

/// The largest difference, which is at most `tolerance` of the larger of 1 and the expected value.
fn assert_close(found: &[f32], expected: &[f32], tolerance: f32, what: &str) -> f32 {
    assert_eq!(found.len(), expected.len(), "{what}");
    let mut most = 0.0f32;
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let apart = (found - expected).abs();
        assert!(
            apart <= tolerance * expected.abs().max(1.0),
            "{what} {index}: {found} and {expected}"
        );
        most = most.max(apart);
    }
    most
}
