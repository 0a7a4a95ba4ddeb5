"""Templates: parallel's places, and a shell that makes of each exactly the value."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from queuectl.domain.places import fill, has_place
from queuectl.domain.template import Template
from queuectl.errors import InvalidInput

#: Prints its arguments, each ended by a NUL.
PRINT = "printf '%s\\0'"

#: Any text that an argument can hold, with the characters that shells care for made frequent.
VALUES = st.text(
    st.one_of(
        st.sampled_from("'\"`$\\(){}<>|&;*?[]#~!=- \t\n\rabIF2"),
        st.characters(exclude_characters="\0", exclude_categories=["Cs"]),
    ),
    min_size=1,
    max_size=20,
)

HOSTILE = [
    "two words",
    "it's",
    'say "hi"',
    "$(touch pwned)",
    "`touch pwned`",
    "${HOME}",
    "$HOME",
    "-rf",
    "--",
    "a\nb",
    "\n",
    "*",
    "~",
    "~root",
    "a;b",
    "a&b",
    "#no",
    "\\",
    "\\'",
    "A=b",
    "if",
    "2",
    "{}",
    "{.}",
    "!",
    "é\u202eü",
    " ",
]


def received(command: str, folder: Path, shell: str = "sh") -> list[str]:
    """Return the arguments that PRINT was called with; nothing else may have happened."""
    done = subprocess.run(
        [shell, "-c", command], capture_output=True, cwd=folder, timeout=30, check=False
    )
    assert done.returncode == 0, done
    assert done.stderr == b"", done
    assert list(folder.iterdir()) == []
    return done.stdout.decode().split("\0")[:-1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder, in which no pattern of a value's matches a file."""
    return tmp_path_factory.mktemp("empty")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("foo.jpg", ["foo.jpg", "foo", "foo.jpg", ".", "foo", "7"]),
        ("sub.d/foo.jpg", ["sub.d/foo.jpg", "sub.d/foo", "foo.jpg", "sub.d", "foo", "7"]),
        ("sub.d/bar", ["sub.d/bar", "sub.d/bar", "bar", "sub.d", "bar", "7"]),
        ("/foo", ["/foo", "/foo", "foo", "/", "foo", "7"]),
        ("a.tar.gz", ["a.tar.gz", "a.tar", "a.tar.gz", ".", "a.tar", "7"]),
        ("a/b/", ["a/b/", "a/b/", "", "a", "", "7"]),
        ("a.b\nc/d.e", ["a.b\nc/d.e", "a.b\nc/d", "d.e", "a.b\nc", "d", "7"]),
    ],
)
def test_the_places_are_those_of_parallel(folder: Path, value: str, expected: list[str]) -> None:
    template = Template.of_line(PRINT + " {} {.} {/} {//} {/.} {#}")

    assert received(template.render(value, 7), folder) == expected


#: Lines that print the value in every kind of place, and what they print around it.
LINES = [
    ("{}", "%"),
    ("x{}y", "x%y"),
    ('"{}"', "%"),
    ('"x {} y"', "x % y"),
    ("'{}'", "%"),
    ("'x {} y'", "x % y"),
    ('"a\\{}"', "a\\%"),
    ('"a\\\\{}"', "a\\%"),
    ('$x{}"$x{}"', "%%"),
    ('"$(printf %s {}x)"', "%x"),
    ('"$(printf %s "{}"x)"', "%x"),
    ("\"$(printf %s '{}'x)\"", "%x"),
    ("~{}", "~%"),
    ('"${#}{}"', "0%"),
    ("\\{}{}", "{}%"),
    ("1 2>/dev/null {}", "1 %"),
]


@pytest.mark.parametrize(("line", "around"), LINES)
@pytest.mark.parametrize("value", HOSTILE)
def test_a_hostile_value_arrives_as_it_is_wherever_it_stands(
    folder: Path, line: str, around: str, value: str
) -> None:
    expected = around.replace("%", value)

    for shell in ("sh", "bash"):
        arguments = received(Template.of_line(f"{PRINT} {line}").render(value, 1), folder, shell)

        assert " ".join(arguments) == expected


@given(value=VALUES, place=st.sampled_from([line for line, _ in LINES]), data=st.data())
def test_any_value_arrives_as_it_is(
    folder: Path, value: str, place: str, data: st.DataObject
) -> None:
    around = dict(LINES)[place]
    shell = data.draw(st.sampled_from(["sh", "bash"]))

    arguments = received(Template.of_line(f"{PRINT} {place}").render(value, 1), folder, shell)

    assert " ".join(arguments) == around.replace("%", value)


@given(value=VALUES, before=VALUES, behind=VALUES)
def test_a_word_is_taken_as_it_is(folder: Path, value: str, before: str, behind: str) -> None:
    word = f"{before}{{}}{behind}"
    if "{%}" in word:
        return
    template = Template.of_words(["printf", "%s\\0", before.replace("{", ""), word, "{}"])

    assert received(template.render(value, 1), folder) == [
        before.replace("{", ""),
        fill(word, value, 1),
        value,
    ]


@pytest.mark.parametrize("value", HOSTILE)
def test_a_value_in_the_place_of_a_command_is_a_command(tmp_path: Path, value: str) -> None:
    """``if`` and ``A=b`` are no words of the shell's there; no such command is found."""
    command = Template.of_line("{} 3>/dev/null").render(value, 1)

    done = subprocess.run(["sh", "-c", command], capture_output=True, cwd=tmp_path, check=False)

    assert done.returncode in (126, 127), done
    assert list(tmp_path.iterdir()) == []


def test_a_number_before_a_redirection_is_no_descriptor(tmp_path: Path) -> None:
    command = Template.of_line("echo {}>out").render("2", 1)

    subprocess.run(["sh", "-c", command], cwd=tmp_path, check=True)

    assert (tmp_path / "out").read_text() == "2\n"


def test_without_a_place_the_value_comes_last(folder: Path) -> None:
    assert received(Template.of_line(f"{PRINT} a").render("b c", 1), folder) == ["a", "b c"]
    words = Template.of_words(["printf", "%s\\0", "a"])
    assert received(words.render("b c", 1), folder) == ["a", "b c"]


def test_plain_values_are_not_quoted() -> None:
    assert Template.of_line("convert {} {.}.png").render("in/a.jpg", 1) == (
        "convert in/a.jpg in/a.png"
    )
    assert Template.of_words(["convert", "{}", "{.}.png"]).render("a b.jpg", 1) == (
        "convert 'a b.jpg' 'a b.png'"
    )


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("sh -c 'echo {}'", "sh would read the value as a part of its code"),
        ('sudo bash -lc "echo {}"', "sudo would read"),
        ('sh -c "echo $(basename {})"', "sh would read"),
        ("eval echo\\ {}", "eval would read"),
        ("echo a # {}", "no value can stand in a comment"),
        ("echo `basename {}`", "no value can stand in backquotes"),
        ("echo $(( {} + 1 ))", "no value can stand in $((...))"),
        ("echo $((a[')'] + {}))", "too intricate"),
        ("echo ${x:-{}}", "too intricate"),
        ("echo $'{}'", "no value can stand in $'...'"),
        ("echo $'\\'' {}", "not the same in every sh"),
        ("((x = {}))", "not the same in every sh"),
        ("cat <<END\n{}\nEND", "no here-document"),
        ('echo "$(case {} in a) echo;; esac)"', "no case in $(...)"),
        ("echo '{}", "does not close its '"),
        ('echo "{}', 'does not close its "'),
        ("echo $(ls {}", "does not close its $("),
        ("echo {%}", "a slot's number"),
        ("echo a;", "a value would be a command"),
        ("echo a &", "a value would be a command"),
        ("echo a # b", "no value can stand in a comment"),
    ],
)
def test_what_no_quoting_makes_safe_is_refused(line: str, why: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        Template.of_line(line)

    assert why in refusal.value.message
    assert refusal.value.hint or "sh" in refusal.value.message


@pytest.mark.parametrize("words", [["sh", "-c", "echo {}"], ["env", "A=1", "bash", "-xc", "ls {}"]])
def test_a_word_of_code_is_refused(words: list[str]) -> None:
    with pytest.raises(InvalidInput, match="as a part of its code"):
        Template.of_words(words)


@pytest.mark.parametrize(
    ("line", "printed"),
    [
        ("sh -c 'printf %s \"$1\"' sh {}", "a b"),
        ("sh -c 'printf %s {#}' {}", "1"),
        ("sh -c {}", ""),
        ("grep -c '{} x' /dev/null || printf no", "0\nno"),
        ("case {} in 'a b') printf yes;; esac", "yes"),
        ("(printf %s {})", "a b"),
        ("if [ {} = 'a b' ]; then printf yes; fi", "yes"),
        ("printf $((1 + 2)); : {}", "3"),
        ("printf `echo x`; : {}", "x"),
        ("printf x # it's {#}", None),
        ("awk 'BEGIN { printf \"%s\", ARGV[1] }' {}", "a b"),
        ("x=1; printf ${x}; : {}", "1"),
    ],
)
def test_what_is_safe_is_let_through(tmp_path: Path, line: str, printed: str | None) -> None:
    if printed is None:
        with pytest.raises(InvalidInput):
            Template.of_line(line)
        return
    (tmp_path / "a").write_text("")
    command = Template.of_line(line).render("a b" if line != "sh -c {}" else ":", 1)

    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)

    assert done.stdout == printed


def test_text_with_places_is_filled_without_quotes() -> None:
    assert fill("{/.}-{#}", "x/a b.jpg", 3) == "a b-3"
    assert has_place("a{//}") is True
    assert has_place("{ } {x} ${y}") is False


#: What templates are made of, and what is most likely to be read wrongly.
FRAGMENTS = (
    "'",
    '"',
    "$(",
    ")",
    "(",
    "`",
    "\\",
    "{}",
    "{.}",
    "{/}",
    "#",
    ";",
    "a",
    "$",
    "${x}",
    "${#}",
    "$'",
    "<<",
    "<<<",
    "<",
    ">o",
    "$((",
    "))",
    "|",
    "&",
    "x=",
    "~",
    "[",
    "]",
    "!",
    "{",
    "}",
    "1",
    '$"',
    "\\'",
    " ",
    "\n",
    "case ",
    " in ",
    "esac",
    "if ",
    "then ",
    "fi",
    "echo ",
    "{}",
    "{}",
    " ",
)
ATTACKS = (
    "'$(touch pwned)\";touch pwned;`touch pwned`\ntouch pwned\n",
    '";touch pwned;"',
    "';touch pwned;'",
    "\ntouch pwned\n",
    "$(touch pwned)",
    '\\";touch pwned #',
)


@settings(max_examples=500)
@given(st.lists(st.sampled_from(FRAGMENTS), max_size=12).map("".join), st.sampled_from(ATTACKS))
def test_whatever_the_template_is_no_value_is_run(
    tmp_path_factory: pytest.TempPathFactory, line: str, value: str
) -> None:
    """A template is refused, or what it makes runs nothing of a value; be it no good command."""
    try:
        command = Template.of_line(f"echo {line}").render(value, 1)
    except InvalidInput:
        return
    folder = tmp_path_factory.mktemp("attacked")

    for shell in ("sh", "bash"):
        subprocess.run(
            [shell, "-c", command],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=30,
            check=False,
        )

    assert not (folder / "pwned").exists()
