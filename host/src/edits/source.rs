//! Where edits are read from: a run's folder, an artifact of the store, or a file of edits that anybody made.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::config::Config;
use crate::data::fields::FieldPath;
use crate::data::jsonl;
use crate::data::records::{EditRecord, Outcome, Pair, SetAside, SetAsideReason};
use crate::data::rows::Rows;
use crate::error::{Error, Result};
use crate::pipeline::run_dir::{ABOUT, CONFIG};
use crate::pipeline::stages::{
    EDIT_ANSWERS, EDITS, HELD_OUT_EDIT_ANSWERS, HELD_OUT_EDITS, MODEL, SET_ASIDE,
};
use crate::pipeline::store::list::{find, scan};

/// The stage whose artifacts hold edits.
const STAGE: &str = "edits";

/// Edits, and what they belong to.
#[derive(Clone, Debug, Default)]
pub struct EditSet {
    /// What they were read from, for headings.
    pub from: String,
    /// What came of each response that was to be edited, in the order of the files.
    pub rows: Vec<EditRecord>,
    /// Rows that are no edits: of a stage, also those whose edit its tokens refused; of a file, those that cannot be read.
    pub set_aside: Vec<SetAside>,
    /// The run that made them, where a run's folder was named.
    pub run: Option<RunOfEdits>,
}

/// The run that made edits.
#[derive(Clone, Debug)]
pub struct RunOfEdits {
    /// Its configuration.
    pub config: Config,
    /// The folder of the model whose tokenizer it used; `None` where that is gone.
    pub model: Option<PathBuf>,
}

/// Which keys of a file's rows hold what.
#[derive(Clone, Debug)]
pub struct Fields {
    /// The id; the number of the line where a row has none.
    pub id: FieldPath,
    /// The prompt; empty where a row has none.
    pub prompt: FieldPath,
    /// The response as it was.
    pub response: FieldPath,
    /// The edit: a text, a list of which the first counts, or null where nothing needs to change.
    pub edited: FieldPath,
}

impl Default for Fields {
    fn default() -> Self {
        Self {
            id: FieldPath::new("id"),
            prompt: FieldPath::new("prompt"),
            response: FieldPath::new("response"),
            edited: FieldPath::new("edited"),
        }
    }
}

impl EditSet {
    /// Reads what the user named: a run's folder, a file, or the beginning of an artifact's hash in `store`.
    ///
    /// # Errors
    /// None of these, or a file that cannot be read.
    pub fn read(named: &Path, store: &Path, fields: &Fields) -> Result<Self> {
        if named.join(ABOUT).is_file() {
            return Self::of_run(named, store);
        }
        if named.is_file() {
            return Self::of_file(named, fields);
        }
        if named.is_dir() {
            return Err(Error::input(format!(
                "{} is a folder without {ABOUT}; accepted: a run's folder, a file of edits, or the hash of an artifact",
                named.display()
            ))
            .hint("of a comparison, name one of its runs"));
        }
        Self::of_store(&named.to_string_lossy(), store)
    }

    fn of_run(dir: &Path, store: &Path) -> Result<Self> {
        /// `run.json`, as far as it is read here.
        #[derive(Deserialize)]
        struct About {
            stages: Vec<Stage>,
        }
        #[derive(Deserialize)]
        struct Stage {
            #[serde(rename = "stage")]
            name: String,
            hash: String,
            dir: PathBuf,
        }
        let read = |name: &str| {
            let path = dir.join(name);
            fs::read_to_string(&path).map_err(|error| Error::io("read", &path, &error))
        };
        let about: About = serde_json::from_str(&read(ABOUT)?).map_err(|error| {
            Error::input(format!("{} is damaged: {error}", dir.join(ABOUT).display()))
        })?;
        let config = Config::from_toml(&read(CONFIG)?)
            .map_err(|error| error.context(dir.join(CONFIG).display()))?;
        let place = |name: &str| {
            let stage = about.stages.iter().find(|stage| stage.name == name)?;
            let places = [stage.dir.clone(), store.join(name).join(&stage.hash)];
            places.into_iter().find(|dir| dir.is_dir())
        };
        let artifact = place(STAGE).ok_or_else(|| {
            Error::input(format!(
                "{}: the edits of this run are neither where it left them nor in {}",
                dir.display(),
                store.display()
            ))
            .hint("--store says where the store is now")
        })?;
        let mut set = Self::of_artifact(&artifact, dir.display().to_string())?;
        let model = place("sft").map(|sft| sft.join(MODEL));
        set.run = Some(RunOfEdits { config, model });
        Ok(set)
    }

    fn of_store(asked: &str, store: &Path) -> Result<Self> {
        let contents = scan(store).map_err(|error| {
            error.context(format!("{asked} is no file and no folder, so an artifact"))
        })?;
        let entry = find(&contents.entries, asked)?;
        if entry.stage != STAGE {
            return Err(Error::input(format!(
                "{} is of the stage {}; accepted: an artifact of the stage {STAGE}",
                entry.id(),
                entry.stage
            ))
            .hint(format!(
                "`finegrain store list` shows them; {STAGE}/ and the beginning of a hash names one"
            )));
        }
        Self::of_artifact(&entry.dir, entry.id())
    }

    fn of_artifact(dir: &Path, from: String) -> Result<Self> {
        let mut rows: Vec<EditRecord> = Vec::new();
        for (answers, pairs) in [
            (EDIT_ANSWERS, EDITS),
            (HELD_OUT_EDIT_ANSWERS, HELD_OUT_EDITS),
        ] {
            // A file of people's edits has no editor that answered.
            if dir.join(answers).is_file() {
                rows.extend(jsonl::read::<EditRecord>(&dir.join(answers))?);
            } else {
                let pairs: Vec<Pair> = jsonl::read(&dir.join(pairs))?;
                rows.extend(pairs.into_iter().map(|pair| EditRecord {
                    id: pair.id,
                    prompt: pair.prompt,
                    original: pair.rejected,
                    outcome: Outcome::Edited {
                        response: pair.chosen,
                    },
                    origin: None,
                }));
            }
        }
        let set_aside = dir.join(SET_ASIDE);
        Ok(Self {
            from,
            rows,
            set_aside: if set_aside.is_file() {
                jsonl::read(&set_aside)?
            } else {
                Vec::new()
            },
            run: None,
        })
    }

    fn of_file(path: &Path, fields: &Fields) -> Result<Self> {
        let rows = Rows::read(path, None)?;
        let mut set = Self {
            from: path.display().to_string(),
            set_aside: rows.set_aside().collect(),
            ..Self::default()
        };
        let mut seen: HashMap<String, String> = HashMap::new();
        for row in &rows.rows {
            // Files of anybody's may have no ids; a field that was named must be there.
            let id = if row.values.get("id").is_none() && fields.id == Fields::default().id {
                rows.id(row)
            } else {
                let id = fields.id.name(&row.values);
                id.map_err(|found| Error::input(format!("{}: no id: {found}", rows.place(row))))?
            };
            let place = rows.place(row);
            if let Some(first) = seen.insert(id.clone(), place.clone()) {
                return Err(Error::input(format!(
                    "{place}: id `{id}` occurs before, at {first}; accepted: every id once"
                )));
            }
            match fields.record(id.clone(), &row.values) {
                Ok(record) => set.rows.push(record),
                Err(detail) => {
                    let reason = SetAsideReason::MissingField;
                    set.set_aside.push(SetAside::new(id, reason, detail));
                }
            }
        }
        if set.rows.is_empty() {
            let error = Error::input(format!(
                "{}: none of {} rows is an edit",
                path.display(),
                rows.len()
            ));
            return Err(match set.set_aside.first() {
                Some(row) => error.hint(format!(
                    "row {}: {}; --response and --edited name other fields",
                    row.id, row.detail
                )),
                None => error,
            });
        }
        Ok(set)
    }
}

impl Fields {
    /// A row as an edit: one that an editor's stage wrote, or fields of anybody's.
    ///
    /// # Errors
    /// In words: what is missing.
    fn record(&self, id: String, row: &Value) -> Result<EditRecord, String> {
        if row.get("outcome").is_some_and(Value::is_object) {
            return serde_json::from_value(row.clone()).map_err(|error| error.to_string());
        }
        let original = self.response.text(row)?.to_owned();
        let edited = match self.edited.value(row)? {
            Value::Null => None,
            _ => self
                .edited
                .texts(row)?
                .first()
                .map(|text| (*text).to_owned()),
        };
        let prompt = match self.prompt.value(row) {
            Ok(Value::String(prompt)) => prompt.clone(),
            Ok(_) => return Err(self.prompt.text(row).err().unwrap_or_default()),
            Err(_) if self.prompt == Self::default().prompt => String::new(),
            Err(missing) => return Err(missing),
        };
        Ok(EditRecord {
            id,
            prompt,
            outcome: match edited {
                Some(response) if response != original => Outcome::Edited { response },
                _ => Outcome::Unchanged,
            },
            original,
            origin: None,
        })
    }
}
