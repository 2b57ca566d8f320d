//! Expected values: Jinja2 3.1.6 on Python 3.11, in transformers' environment for chat templates.

use super::super::ChatTemplate;
use super::*;

fn render(source: &str) -> String {
    ChatTemplate::new(source)
        .render(&[], [("eos_token", "</s>")], true)
        .unwrap_or_else(|error| panic!("{source}: {error}"))
}

#[test]
fn line_ends_are_those_of_unix_in_texts_and_in_literals() {
    let unix = "{%- if true %}\none\n{%- endif %}\n\n{{ 'a\nb' }}\nend\n";
    assert_eq!(render(unix), "one\na\nb\nend");
    for ends in ["\r\n", "\r"] {
        assert_eq!(render(&unix.replace('\n', ends)), "one\na\nb\nend");
    }
}

#[test]
fn literals_have_pythons_escapes() {
    for (literal, value) in [
        ("'one \\\ntwo'", "one two"),
        (r"'a\/b'", r"a\/b"),
        (r"'\U0001F600'", "😀"),
        (r"'\u00e9\xe9\351'", "ééé"),
        (r"'\ud83d\ude00'", "😀"),
        (r"'\a\b\f\v\0'", "\x07\x08\x0c\x0b\0"),
        (r"'\n\r\t|'", "\n\r\t|"),
        (r#""it\'s \"so\"""#, "it's \"so\""),
        (r"'\\n \d \é'", r"\n \d \xe9"),
        (r"'}} %} {# é'", "}} %} {# é"),
        (r"{'a': {'b': '\x41'}}.a.b", "A"),
    ] {
        assert_eq!(
            render(&format!("{{{{ {literal} }}}}|")),
            format!("{value}|"),
            "{literal}"
        );
    }
}

#[test]
fn escapes_that_python_refuses_are_refused() {
    for literal in [r"'\x4'", r"'\u12'", r"'\U00110000'", r"'\N{DASH}'"] {
        let template = ChatTemplate::new(format!("{{{{ {literal} }}}}"));
        let error = template.render(&[], [], true).expect_err(literal);
        assert!(error.to_string().contains("the literal"), "{error}");
    }
}

#[test]
fn a_text_with_a_percent_behind_it_is_filled() {
    for (code, value) in [
        ("'%s' % 'a'", "a"),
        ("'%s and %s' % ('a', 'b')", "a and b"),
        ("'%d%%' % 7", "7%"),
        ("'%02d:%.2f' % (3, 2.5)", "03:2.50"),
        ("'<%s>' % eos_token.strip('<>') ~ '%'", "</s>%"),
        ("'%s' % ['a', 'b'][1] | upper", "B"),
        ("('x' ~ '%s'%(1 + 1)) + '!'", "x2!"),
        (
            "'%(role)s: %(text)s' % {'role': 'user', 'text': 'hi'}",
            "user: hi",
        ),
        ("7 % 4", "3"),
        ("'%s' % (7 % 4)", "3"),
    ] {
        assert_eq!(render(&format!("{{{{ {code} }}}}")), value, "{code}");
    }
    assert_eq!(render("{% set x = '%s' % 'a' %}{{ x }}"), "a");
    assert_eq!(render("{% if '%d' % 3 == '3' %}yes{% endif %}"), "yes");
}

#[test]
fn comments_raw_texts_and_texts_outside_of_tags_stay_as_they_are() {
    let source = r"{# '\U0041' % x {{ #}'\/' {% raw %}{{ '\/' % x }}{% endraw %} 100% {{ '\/' }}";
    assert_eq!(render(source), r"'\/' {{ '\/' % x }} 100% \/");
}

#[test]
fn errors_behind_a_literal_of_several_lines_name_their_line() {
    let source = "{{ 'a\\\nb\nc' }}\n{{ raise_exception('no') }}";
    let error = ChatTemplate::new(source)
        .render(&[], [], true)
        .expect_err("no");
    assert!(error.to_string().contains("line 4"), "{error}");
}

#[test]
fn what_is_left_open_is_the_engines_to_refuse() {
    for source in ["{{ 'a", "{% if x", "{{ (1 }}", "{# a"] {
        let found = prepared(source).expect("no escape");
        assert_eq!(found, source);
        assert!(ChatTemplate::new(source).render(&[], [], true).is_err());
    }
}
