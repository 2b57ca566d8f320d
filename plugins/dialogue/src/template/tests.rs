use super::*;
use minijinja::context;
use proptest::prelude::*;

const HEAD: &str = "{# finegrain template edit-json, version mine-2 #}\n";
const AGAIN: &str = "{% block again %}{{ complaints | join(' ') }}{% endblock %}";

/// A template of kind edit-json with these blocks for system and user.
fn parsed(system: &str, user: &str) -> Result<Template> {
    let source = format!(
        "{HEAD}{{% block system %}}{system}{{% endblock %}}\n{{% block user %}}{user}{{% endblock %}}\n{AGAIN}"
    );
    Template::parse(TemplateKind::EditJson, "mine.jinja", &source)
}

fn refusal(system: &str, user: &str) -> String {
    parsed(system, user).expect_err("refused").message
}

fn row<'a>(prompt: &'a str, response: &'a str) -> Value {
    let complaints: Vec<String> = Vec::new();
    context! { prompt, response, mark => "abc", complaints }
}

#[test]
fn built_in_templates_load_and_say_who_they_are() {
    for kind in TemplateKind::ALL {
        let template = Template::load(kind, None).unwrap();
        assert_eq!(template.id().name, kind.name());
        let version = if kind == TemplateKind::Judge {
            "1"
        } else {
            "2"
        };
        assert_eq!(template.id().version, version);
        assert_eq!(template.id().sha256.len(), 64);
        for variable in kind.variables() {
            assert!(template.uses(variable), "{variable} in {}", kind.name());
        }
    }
}

#[test]
fn texts_are_put_in_as_they_are() {
    let template = parsed("s", "{{ prompt }}|{{ response }}").unwrap();
    let question = template
        .question(&row("<b> & {{ 7 * 6 }}\r\n", "\u{a0}{% raw %}\n"))
        .unwrap();
    assert_eq!(question.system, "s");
    assert_eq!(question.user, "<b> & {{ 7 * 6 }}\r\n|\u{a0}{% raw %}\n");
}

#[test]
fn a_file_is_read_and_hashed_as_it_lies_there() {
    let folder = std::env::temp_dir().join(format!("finegrain-template-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("mine.jinja");
    let source = format!("\u{feff}{}", TemplateKind::EditJson.built_in());
    std::fs::write(&path, &source).unwrap();
    let path = path.to_str().unwrap();
    let template = Template::load(TemplateKind::EditJson, Some(path)).unwrap();
    assert_eq!(template.id().name, path);
    assert_eq!(template.id().sha256, hex(&Sha256::digest(source)));
    // The mark of another system's editor is no part of the text.
    let question = template.question(&row("p", "r")).unwrap();
    assert!(question.system.starts_with("You edit"), "{question:?}");
    let error = Template::load(TemplateKind::Judge, Some(path)).unwrap_err();
    assert!(
        error
            .message
            .contains("a template edit-json, and judge is asked for"),
        "{error}"
    );
    std::fs::remove_dir_all(&folder).unwrap();
    let error = Template::load(TemplateKind::EditJson, Some(path)).unwrap_err();
    assert!(error.message.contains("mine.jinja: "), "{error}");
}

#[test]
fn refusals_name_the_template_and_the_cause() {
    let text = refusal("s", "{{ prompt }} {{ response }} {{ reply }}");
    assert!(
        text.contains("the template mine.jinja: there is no variable `reply`"),
        "{text}"
    );
    assert!(
        text.contains("prompt, response, mark, complaints"),
        "{text}"
    );
    let text = refusal("s", "{{ prompt }}");
    assert!(
        text.contains("the variable `response` is not used"),
        "{text}"
    );
    let text = refusal("\n{% for %}", "{{ prompt }} {{ response }}");
    assert!(text.contains("mine.jinja, line 3"), "{text}");
    let text = refusal("s", "{{ prompt }} {{ response.words }}");
    assert!(
        text.contains("block user") || text.contains("line"),
        "{text}"
    );
    let text = refusal(" ", "{{ prompt }} {{ response }}");
    assert!(text.contains("block system: the text is blank"), "{text}");
    let text = refusal(
        "s",
        "{{ prompt }} {{ response }}{% endblock %} lost {% block x %}",
    );
    assert!(text.contains("outside of the blocks"), "{text}");
}

#[test]
fn a_missing_block_is_named() {
    let source = format!(
        "{HEAD}{{% block system %}}{{{{ prompt }}}} {{{{ response }}}}{{% endblock %}}{AGAIN}"
    );
    let error = Template::parse(TemplateKind::EditJson, "mine.jinja", &source).unwrap_err();
    assert!(error.message.contains("user"), "{error}");
}

#[test]
fn a_first_line_must_say_kind_and_version() {
    let body = TemplateKind::Judge.built_in().split_once('\n').unwrap().1;
    for line in [
        "",
        "{# judge 1 #}",
        "{# finegrain template judge, version  #}",
        "{# finegrain template judge, version 1 b #}",
    ] {
        let error = Template::parse(
            TemplateKind::Judge,
            "mine.jinja",
            &format!("{line}\n{body}"),
        )
        .unwrap_err();
        assert!(
            error
                .message
                .contains("`{# finegrain template judge, version 1 #}`"),
            "{line}: {error}"
        );
    }
}

#[test]
fn marks_of_an_edit_go_together() {
    let source = TemplateKind::EditText.built_in().replace("{{ close }}", "");
    let error = Template::parse(TemplateKind::EditText, "mine.jinja", &source).unwrap_err();
    assert!(error.message.contains("go together"), "{error}");
}

#[test]
fn no_other_file_is_included() {
    let text = refusal("{% include 'other.jinja' %}", "{{ prompt }} {{ response }}");
    assert!(text.contains("other.jinja"), "{text}");
    let text = refusal("{% include 'edit-json' %}", "{{ prompt }} {{ response }}");
    assert!(text.contains("could not render include"), "{text}");
}

#[test]
fn a_template_that_does_not_end_is_stopped() {
    let endless =
        "{% for a in range(9999) %}{% for b in range(9999) %}{{ a }}{% endfor %}{% endfor %}";
    let text = refusal(endless, "{{ prompt }} {{ response }}");
    assert!(text.contains("too much work"), "{text}");
}

#[test]
fn a_text_without_measure_is_refused() {
    let template = parsed("s", "{{ prompt }}{{ response }}").unwrap();
    let half = "x".repeat(MAX_TEXT / 2 + 1);
    let error = template.question(&row(&half, &half)).unwrap_err();
    assert!(error.message.contains("longer than 16 MiB"), "{error}");
}

proptest! {
    #[test]
    fn any_text_as_a_template_is_read_or_refused(body in "(\\{[{%#]|[}%#]\\}| |block|user|for|[a-z]|\\PC){0,40}") {
        let _ = Template::parse(TemplateKind::EditJson, "any", &format!("{HEAD}{body}"));
    }
}
