//! Phrases that a reader whose first language is not English cannot search for or translate:
//! personal pronouns for things, relative clauses without a noun, verbs of speech and feeling for
//! programs, archaic words.

/// Words that are never used for a thing.
const WORDS: [&str; 47] = [
    "who",
    "whoever",
    "whose",
    "whom",
    "nobody",
    "somebody",
    "everybody",
    "anybody",
    "tell",
    "tells",
    "told",
    "say",
    "says",
    "said",
    "hear",
    "hears",
    "heard",
    "speak",
    "speaks",
    "spoke",
    "spoken",
    "ask",
    "asks",
    "asked",
    "unasked",
    "believe",
    "believes",
    "believed",
    "trusts",
    "trusted",
    "blame",
    "blames",
    "blamed",
    "patience",
    "patient",
    "company",
    "breath",
    "nerves",
    "silence",
    "silent",
    "lest",
    "likewise",
    "beforehand",
    "thrifty",
    "thriftily",
    "unwelcome",
    "alas",
];

/// Phrases, in lower case and without punctuation. One that ends with `*` is the beginning of a word.
const PHRASES: [&str; 19] = [
    "is no *",
    "are no *",
    "no good",
    "forgiv*",
    "let down",
    "let go",
    "lets go",
    "give up on",
    "gives up on",
    "sign of life",
    "signs of life",
    "last words",
    "good as its word",
    "hands full",
    "for ever",
    "so many",
    "no more",
    "of its own accord",
    "in vain",
];

/// Words that begin a relative clause without a noun where a sentence begins, but for questions.
const BEGINNINGS: [&str; 5] = ["what", "whatever", "whether", "how", "who"];

/// Parts of identifiers that are never used.
const NAME_PARTS: [&str; 29] = [
    "who",
    "whoever",
    "whose",
    "nobody",
    "somebody",
    "tell",
    "tells",
    "told",
    "say",
    "says",
    "said",
    "hear",
    "hears",
    "heard",
    "speak",
    "speaks",
    "believe",
    "believes",
    "blame",
    "blames",
    "unwelcome",
    "company",
    "breath",
    "crowded",
    "lest",
    "unasked",
    "thriftily",
    "starving",
    "flying",
];

/// Beginnings of parts of identifiers that are never used.
const NAME_BEGINNINGS: [&str; 2] = ["forgiv", "obey"];

/// The first idiom of a text, which may be several sentences. Code in backticks does not count.
pub(super) fn idiom(text: &str) -> Option<String> {
    let text = without_code(text);
    let words = format!(" {} ", words(&text).join(" "));
    let word = WORDS.iter().find(|word| words.contains(&format!(" {word} ")));
    let phrase = || PHRASES.iter().find(|phrase| has_phrase(&words, phrase));
    let found = word.or_else(phrase).map(|found| (*found).to_owned());
    found.or_else(|| headless(&text))
}

/// The first part of an identifier that must not be one.
pub(super) fn name_idiom(name: &str) -> Option<String> {
    let parts = name_parts(name);
    let joined = format!("_{}_", parts.join("_"));
    let phrase = ["let_down", "let_go"].iter().find(|it| joined.contains(&format!("_{it}_")));
    let wrong = |part: &&String| {
        NAME_PARTS.contains(&part.as_str())
            || NAME_BEGINNINGS.iter().any(|begin| part.starts_with(begin))
    };
    phrase.map(|it| (*it).to_owned()).or_else(|| parts.iter().find(wrong).cloned())
}

fn has_phrase(words: &str, phrase: &str) -> bool {
    match phrase.strip_suffix('*') {
        Some(begin) => words.match_indices(&format!(" {begin}")).any(|(at, found)| {
            let rest = &words[at + found.len()..];
            // "It is no longer used" is plain English.
            rest.starts_with(|c: char| c.is_ascii_alphabetic()) && !rest.starts_with("longer ")
        }),
        None => words.contains(&format!(" {phrase} ")),
    }
}

fn without_code(text: &str) -> String {
    text.split('`').step_by(2).collect::<Vec<_>>().join("x")
}

fn words(text: &str) -> Vec<String> {
    let parts = text.split(|c: char| !c.is_ascii_alphabetic());
    parts.filter(|part| !part.is_empty()).map(str::to_ascii_lowercase).collect()
}

/// A relative clause without a noun at the beginning of a sentence.
fn headless(text: &str) -> Option<String> {
    sentences(text).into_iter().find_map(|sentence| {
        let first = sentence.split(|c: char| !c.is_ascii_alphabetic()).next()?;
        let is_capital = first.starts_with(|c: char| c.is_ascii_uppercase());
        let begins = is_capital && BEGINNINGS.contains(&first.to_ascii_lowercase().as_str());
        (begins && !sentence.ends_with('?')).then(|| first.to_owned())
    })
}

/// The sentences of a text, each with the mark at its end.
fn sentences(text: &str) -> Vec<&str> {
    let mut all = Vec::new();
    let mut rest = text.trim_start();
    while let Some(at) = rest.find(['.', ':', ';', '?']) {
        let (sentence, after) = rest.split_at(at + 1);
        all.push(sentence);
        rest = after.trim_start();
    }
    all.push(rest);
    all
}

/// `NoMore` and `no_more` have the parts `no` and `more`.
fn name_parts(name: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut was_lower = false;
    for c in name.chars() {
        if c == '_' || (c.is_ascii_uppercase() && was_lower) {
            parts.push(String::new());
        }
        was_lower = c.is_ascii_lowercase() || c.is_ascii_digit();
        if c != '_'
            && let Some(last) = parts.last_mut()
        {
            last.push(c.to_ascii_lowercase());
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

#[test]
fn each_pattern_is_caught() {
    for bad in [
        "Every adapter with its worker: who they are.",
        "What the scheduler decides.",
        "The queue is empty. Whether it fills shows later.",
        "The driver told the worker.",
        "There is no adapter, which is no fault.",
        "the worker is let down by its driver",
        "Gives up on workers.",
        "no sign of life for 5 s",
        "It waits for ever.",
        "Rows wait for company.",
        "forgiven after a while",
    ] {
        assert!(idiom(bad).is_some(), "{bad}");
    }
    for good in [
        "Adapters and their workers: identity, state and counters.",
        "How many adapters are on?",
        "The flag `no_more` ends it.",
        "Ends quarantines whichever adapter they are of.",
        "The number of rows, whether padded or not.",
        "The request is no longer pending.",
    ] {
        assert_eq!(idiom(good), None, "{good}");
    }
    for bad in ["nobody_waits", "let_go", "tells_why", "NobodyAsks", "forgiveness"] {
        assert!(name_idiom(bad).is_some(), "{bad}");
    }
    for good in ["begin_drain", "outlet_goes", "Whole", "essay", "foretell"] {
        assert_eq!(name_idiom(good), None, "{good}");
    }
}
