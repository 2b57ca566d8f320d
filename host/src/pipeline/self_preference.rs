//! One model as editor and as judge: it may prefer what it wrote itself, and what was trained on that.

use serde_json::Value;

use crate::config::Config;
use crate::plugins::Registry;

/// The warning, a whole sentence, where the configuration's editor and one of its judges ask the same model of the same server.
/// `None` where they do not, and where a plugin is not here or does not take its options, which is said elsewhere.
pub fn warning(registry: &Registry, config: &Config) -> Option<String> {
    if !config.task.has_editor() {
        return None;
    }
    let editor = &config.editor;
    let edits = registry.editor(&editor.plugin, &editor.options).ok()?;
    if !edits.capabilities().network {
        return None;
    }
    let asked = model(&editor.options)?;
    let members = config.judge.members();
    let same = members.iter().filter(|judge| {
        let network = !judge.is_reward_model()
            && registry
                .judge(judge.plugin, judge.options)
                .is_ok_and(|judge| judge.capabilities().network);
        network && model(judge.options) == Some(asked)
    });
    let same: Vec<&str> = same.map(|judge| judge.name).collect();
    if same.is_empty() {
        return None;
    }
    Some(format!(
        "The editor and the judge {} are the same model, {}: models tend to prefer their own words, and the judge may prefer its \
         edits and the policies that learned from them.",
        same.join(" and "),
        asked.0
    ))
}

/// The model and the server that the options of a network plugin name; an absent server is the API's own.
fn model(options: &Value) -> Option<(&str, &str)> {
    let text = |key: &str| options[key].as_str().unwrap_or_default();
    let server = text("base_url").trim_end_matches('/');
    Some((text("model"), server)).filter(|(model, _)| !model.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warned(sections: &str) -> Option<String> {
        let config = Config::from_toml(sections).unwrap();
        warning(&Registry::built_in().unwrap(), &config)
    }

    #[test]
    fn the_same_model_of_the_same_server_as_editor_and_judge_is_warned_of() {
        let editor = "[editor]\nuse = \"openai\"\noptions = { model = \"m\", base_url = \"http://127.0.0.1:1/v1\" }\n";
        let judge =
            |options: &str| format!("{editor}[judge]\nuse = \"openai\"\noptions = {{ {options} }}");
        let same = warned(&judge(
            "model = \"m\", base_url = \"http://127.0.0.1:1/v1/\"",
        ))
        .unwrap();
        assert!(
            same.starts_with("The editor and the judge openai are the same model, m:"),
            "{same}"
        );
        let member = format!(
            "{editor}[judge]\nuse = \"panel\"\npanel = [{{ use = \"rubric\" }}, {{ use = \"openai\", name = \"small\", \
             options = {{ model = \"m\", base_url = \"http://127.0.0.1:1/v1\" }} }}]"
        );
        assert!(warned(&member).unwrap().contains("the judge small"));
        for other in [
            "model = \"n\", base_url = \"http://127.0.0.1:1/v1\"",
            "model = \"m\", base_url = \"http://127.0.0.1:2/v1\"",
        ] {
            assert_eq!(warned(&judge(other)), None, "{other}");
        }
        assert_eq!(warned(""), None, "rubrics ask no model");
    }
}
