//! PTX text to tokens, one at a time and without copying: libraries ship megabytes of it.

use crate::Position;

/// A token. Words borrow the text.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Token<'a> {
    /// End of the text (or a NUL byte, which ends the text that CUDA is given).
    End,
    /// An identifier: `add`, `%r1`, `$L__BB0_1`.
    Word(&'a str),
    /// A word after a dot, without the dot: `reg`, `shared::cta`.
    Dotted(&'a str),
    /// An integer literal and whether it carries `U`.
    Integer(u64, bool),
    /// A decimal floating-point literal.
    Decimal(f64),
    /// `0f` and eight hexadecimal digits.
    Single(u32),
    /// `0d` and sixteen hexadecimal digits.
    Double(u64),
    /// A quoted string without the quotes; escapes are left alone.
    Text(&'a str),
    /// One character of punctuation.
    Punct(u8),
    /// Two characters of punctuation: `<<`, `>=`, `&&`.
    Punct2([u8; 2]),
    /// Not PTX, and why.
    Bad(&'static str),
}

impl std::fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Token::End => write!(f, "the end of the text"),
            Token::Word(text) => write!(f, "`{text}`"),
            Token::Dotted(text) => write!(f, "`.{text}`"),
            Token::Integer(value, _) => write!(f, "`{value}`"),
            Token::Decimal(value) => write!(f, "`{value}`"),
            Token::Single(bits) => write!(f, "`0f{bits:08X}`"),
            Token::Double(bits) => write!(f, "`0d{bits:016X}`"),
            Token::Text(text) => write!(f, "`\"{text}\"`"),
            Token::Punct(byte) => write!(f, "`{}`", char::from(*byte)),
            Token::Punct2([a, b]) => write!(f, "`{}{}`", char::from(*a), char::from(*b)),
            Token::Bad(why) => write!(f, "{why}"),
        }
    }
}

/// Bytes that go on an identifier.
const WORD: u8 = 1;
/// Bytes that begin one.
const START: u8 = 2;
/// Blanks other than the newline.
const BLANK: u8 = 4;

static CLASS: [u8; 256] = {
    let mut table = [0u8; 256];
    let mut byte = 0;
    while byte < 256 {
        let it = byte as u8;
        if it.is_ascii_alphabetic() || it == b'_' || it == b'$' {
            table[byte] = WORD | START;
        } else if it.is_ascii_digit() {
            table[byte] = WORD;
        } else if it == b'%' {
            table[byte] = START;
        } else if it == b' ' || it == b'\t' || it == b'\r' || it == 0x0b || it == 0x0c {
            table[byte] = BLANK;
        }
        byte += 1;
    }
    table
};

fn is(byte: u8, class: u8) -> bool {
    CLASS[byte as usize] & class != 0
}

/// Reads tokens.
#[derive(Clone, Debug)]
pub(crate) struct Lexer<'a> {
    text: &'a str,
    /// Offset of the next byte.
    next: usize,
    line: u32,
    line_start: usize,
    /// Where the token last read begins.
    start: usize,
    at: Position,
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Lexer { text, next: 0, line: 1, line_start: 0, start: 0, at: Position { line: 1, column: 1 } }
    }

    /// Where the token last read begins.
    pub(crate) fn at(&self) -> Position {
        self.at
    }

    fn peek(&self, ahead: usize) -> u8 {
        self.text.as_bytes().get(self.next + ahead).copied().unwrap_or(0)
    }

    fn skip_while(&mut self, class: u8) {
        let bytes = self.text.as_bytes();
        while let Some(&byte) = bytes.get(self.next)
            && is(byte, class)
        {
            self.next += 1;
        }
    }

    /// Text between two offsets that lie at ASCII bytes.
    fn slice(&self, from: usize, to: usize) -> &'a str {
        self.text.get(from..to).unwrap_or("")
    }

    fn here(&self) -> Position {
        Position { line: self.line, column: (self.next - self.line_start + 1) as u32 }
    }

    /// Skips blanks and comments; gives the place of a comment that does not end.
    fn skip_blanks(&mut self) -> Option<Position> {
        loop {
            self.skip_while(BLANK);
            match self.peek(0) {
                b'\n' => {
                    self.next += 1;
                    self.line += 1;
                    self.line_start = self.next;
                }
                b'/' if self.peek(1) == b'/' => self.skip_line(),
                b'/' if self.peek(1) == b'*' => {
                    let opened = self.here();
                    self.next += 2;
                    loop {
                        match self.peek(0) {
                            0 if self.next >= self.text.len() => return Some(opened),
                            b'*' if self.peek(1) == b'/' => break,
                            b'\n' => {
                                self.line += 1;
                                self.line_start = self.next + 1;
                            }
                            _ => {}
                        }
                        self.next += 1;
                    }
                    self.next += 2;
                }
                // The preprocessor's line markers and the old `@@DWARF` lines carry nothing that runs.
                b'#' if self.next == self.line_start => self.skip_line(),
                b'@' if self.peek(1) == b'@' => self.skip_line(),
                _ => return None,
            }
        }
    }

    fn skip_line(&mut self) {
        let rest = self.text.as_bytes().get(self.next..).unwrap_or_default();
        self.next += rest.iter().position(|&byte| byte == b'\n' || byte == 0).unwrap_or(rest.len());
    }

    /// The next token.
    pub(crate) fn token(&mut self) -> Token<'a> {
        let unclosed = self.skip_blanks();
        self.start = self.next;
        self.at = unclosed.unwrap_or_else(|| self.here());
        if unclosed.is_some() {
            return Token::Bad("a comment without its end: expected `*/`");
        }
        let byte = self.peek(0);
        if is(byte, START) {
            self.next += 1;
            self.skip_while(WORD);
            let word = self.slice(self.start, self.next);
            return if word == "%" { Token::Punct(b'%') } else { Token::Word(word) };
        }
        match byte {
            0 => Token::End,
            b'0'..=b'9' => self.number(),
            b'.' if is(self.peek(1), WORD) && !self.peek(1).is_ascii_digit() => {
                self.next += 1;
                self.dotted()
            }
            b'.' if self.peek(1).is_ascii_digit() && !self.after_word() => self.number(),
            // `.4byte` and the like, in debug sections.
            b'.' if self.peek(1).is_ascii_digit() => {
                self.next += 1;
                self.dotted()
            }
            b'"' => self.string(),
            _ => self.punctuation(byte),
        }
    }

    /// The byte before the token belongs to a word, as in `mma.1d`.
    fn after_word(&self) -> bool {
        self.start > 0 && self.text.as_bytes().get(self.start - 1).is_some_and(|&byte| is(byte, WORD))
    }

    fn dotted(&mut self) -> Token<'a> {
        self.suffix();
        Token::Dotted(self.slice(self.start + 1, self.next))
    }

    /// Goes over one suffix: words joined by `::`.
    fn suffix(&mut self) {
        self.skip_while(WORD);
        while self.peek(0) == b':' && self.peek(1) == b':' {
            self.next += 2;
            self.skip_while(WORD);
        }
    }

    /// Takes the suffixes that directly follow the word last read: `add` becomes `add.rn.f32`.
    pub(crate) fn extend(&mut self) -> &'a str {
        loop {
            if self.peek(0) == b'.' && is(self.peek(1), WORD) {
                self.next += 1;
                self.suffix();
            } else if self.peek(0) == b':' && self.peek(1) == b':' && is(self.peek(2), WORD) {
                self.suffix();
            } else if self.peek(0) == b'[' && self.slice(self.start, self.next).ends_with(".const") {
                // `ld.const[3]`: banks of constant memory, from old compilers.
                self.next += 1;
                self.skip_while(WORD);
                if self.peek(0) == b']' {
                    self.next += 1;
                }
            } else {
                return self.slice(self.start, self.next);
            }
        }
    }

    /// The name after a dot that directly follows the word last read, as `x` in `%tid.x`.
    pub(crate) fn member(&mut self) -> Option<&'a str> {
        if self.peek(0) != b'.' || !is(self.peek(1), START) {
            return None;
        }
        let from = self.next + 1;
        self.next = from;
        self.skip_while(WORD);
        Some(self.slice(from, self.next))
    }

    /// Whether a colon is next: the word last read is a label.
    pub(crate) fn colon(&mut self) -> bool {
        if self.peek(0) != b':' {
            // Blanks between a label and its colon are rare: look without moving.
            let mut ahead = self.clone();
            return is(self.peek(0), BLANK) && ahead.token() == Token::Punct(b':');
        }
        true
    }

    /// The text of the token last read.
    pub(crate) fn text(&self) -> &'a str {
        self.slice(self.start, self.next)
    }

    /// Skips up to the `}` that closes a brace already read. False at the end of the text.
    pub(crate) fn skip_braces(&mut self) -> bool {
        let mut depth = 1usize;
        while depth > 0 {
            match self.token() {
                Token::Punct(b'{') => depth += 1,
                Token::Punct(b'}') => depth -= 1,
                Token::End => return false,
                _ => {}
            }
        }
        true
    }

    fn string(&mut self) -> Token<'a> {
        self.next += 1;
        let from = self.next;
        loop {
            match self.peek(0) {
                b'"' => break,
                b'\\' if self.peek(1) != b'\n' => self.next += 2,
                b'\n' => return Token::Bad("a string without its end: expected `\"`"),
                _ if self.next >= self.text.len() => {
                    self.next = self.text.len();
                    return Token::Bad("a string without its end: expected `\"`");
                }
                _ => self.next += 1,
            }
        }
        let text = self.slice(from, self.next);
        self.next += 1;
        Token::Text(text)
    }

    fn punctuation(&mut self, byte: u8) -> Token<'a> {
        let after = self.peek(1);
        let pair = matches!(
            (byte, after),
            (b'<', b'<')
                | (b'>', b'>')
                | (b'=', b'=')
                | (b'!', b'=')
                | (b'<', b'=')
                | (b'>', b'=')
                | (b'&', b'&')
                | (b'|', b'|')
        );
        if pair {
            self.next += 2;
            return Token::Punct2([byte, after]);
        }
        if byte.is_ascii_graphic() {
            self.next += 1;
            return Token::Punct(byte);
        }
        // Step over the whole character, so that slices stay on its borders.
        let rest = self.text.get(self.next..).unwrap_or("");
        self.next += rest.chars().next().map_or(1, char::len_utf8);
        Token::Bad("a character that is not PTX")
    }

    fn number(&mut self) -> Token<'a> {
        let bytes = self.text.as_bytes();
        let prefix = if self.peek(0) == b'0' { self.peek(1) } else { 0 };
        let radix = match prefix {
            b'f' | b'F' => return self.float_bits(8),
            b'd' | b'D' => return self.float_bits(16),
            b'x' | b'X' => 16,
            b'b' | b'B' => 2,
            b'0'..=b'9' => 8,
            _ => 10,
        };
        if radix == 16 || radix == 2 {
            self.next += 2;
        }
        let from = self.next;
        while bytes
            .get(self.next)
            .is_some_and(|byte| byte.is_ascii_hexdigit() && (radix == 16 || byte.is_ascii_digit()))
        {
            self.next += 1;
        }
        let exponent = matches!(self.peek(0), b'e' | b'E')
            && (self.peek(1).is_ascii_digit() || matches!(self.peek(1), b'+' | b'-'));
        if (radix == 10 || radix == 8) && (exponent || self.peek(0) == b'.') {
            return self.decimal();
        }
        let digits = self.slice(from, self.next);
        let unsigned = matches!(self.peek(0), b'u' | b'U');
        if unsigned {
            self.next += 1;
        }
        if is(self.peek(0), WORD) {
            self.skip_while(WORD);
            return Token::Bad("a number with letters in it");
        }
        match u64::from_str_radix(digits, radix) {
            Ok(value) => Token::Integer(value, unsigned),
            Err(_) => Token::Bad("an integer that is empty, of another base, or wider than 64 bits"),
        }
    }

    fn decimal(&mut self) -> Token<'a> {
        if self.peek(0) == b'.' {
            self.next += 1;
            while self.peek(0).is_ascii_digit() {
                self.next += 1;
            }
        }
        if matches!(self.peek(0), b'e' | b'E') {
            self.next += 1;
            if matches!(self.peek(0), b'+' | b'-') {
                self.next += 1;
            }
            while self.peek(0).is_ascii_digit() {
                self.next += 1;
            }
        }
        match self.slice(self.start, self.next).parse() {
            Ok(value) => Token::Decimal(value),
            Err(_) => Token::Bad("a malformed decimal number"),
        }
    }

    fn float_bits(&mut self, digits: usize) -> Token<'a> {
        self.next += 2;
        let from = self.next;
        self.skip_while(WORD);
        let text = self.slice(from, self.next);
        match u64::from_str_radix(text, 16) {
            Ok(bits) if text.len() == digits && digits == 8 => Token::Single(bits as u32),
            Ok(bits) if text.len() == digits => Token::Double(bits),
            _ if digits == 8 => Token::Bad("a malformed float: expected `0f` and 8 hexadecimal digits"),
            _ => Token::Bad("a malformed double: expected `0d` and 16 hexadecimal digits"),
        }
    }
}
