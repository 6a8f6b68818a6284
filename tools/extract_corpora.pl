#!/usr/bin/perl
# Turns one unpacked Debian package into JSON lines, one document per line.
# Called by get_corpora.sh; the same package always gives the same bytes.
use strict;
use warnings;

use Compress::Zlib qw(inflateInit memGunzip uncompress Z_STREAM_END);
use Encode qw(decode encode);
use File::Find qw(find);

# Each reader takes the folder of the unpacked package and returns documents in a fixed order:
# { title, text (characters), held_out }.
my %readers = (
    novels     => \&read_novels,
    bible      => \&read_bible,
    commentary => \&read_commentary,
    html       => \&read_html,
    markdown   => \&read_markdown,
    python     => \&read_python,
);

# Held out in the text and in the commentary, which quotes it. None of these books has a parallel
# elsewhere, as Chronicles has in Kings or Mark in Matthew, so nothing of them is in training.
my %held_out_books = map { $_ => 1 } qw(Ruth Job Amos Heb);

my $held_out_novel    = 'Persuasion';
my $held_out_packages = qr{^(?:asyncio|email)/};
my $held_out_interval = 20;     # of pages: every 20th
my $min_line          = 120;    # characters; shorter lines of a page are menus and headings

my $usage = "usage: extract_corpora.pl FORMAT SOURCE FOLDER TRAIN HELD_OUT\n"
  . "appends to the two files, prints: documents, bytes of train text, bytes of held-out text\n"
  . 'formats: ' . join(' ', sort keys %readers) . "\n";

exit main(@ARGV);

sub main {
    my ($format, $source, $root, $train_path, $held_out_path) = @_;
    if (@_ != 5 || !$readers{$format}) {
        print STDERR $usage;
        return 2;
    }
    open my $train,    '>>:raw', $train_path    or die "$train_path: $!\n";
    open my $held_out, '>>:raw', $held_out_path or die "$held_out_path: $!\n";

    my ($documents, $train_bytes, $held_out_bytes) = (0, 0, 0);
    for my $document ($readers{$format}->($root)) {
        next if $document->{text} !~ /\S/;
        my $bytes = length encode('UTF-8', $document->{text});
        print { $document->{held_out} ? $held_out : $train } json_line($source, $document);
        $document->{held_out} ? ($held_out_bytes += $bytes) : ($train_bytes += $bytes);
        $documents++;
    }
    close $train    or die "$train_path: $!\n";
    close $held_out or die "$held_out_path: $!\n";
    die "$source: no text found, its layout is not the expected one\n" if !$documents;
    print "$documents $train_bytes $held_out_bytes\n";
    return 0;
}

# ---------------------------------------------------------------- formats

# The R database is a sequence of (4-byte length, zlib stream); each stream holds one value, a
# character vector with one hard-wrapped line per element.
sub read_novels {
    my ($root) = @_;
    my $path   = "$root/usr/lib/R/site-library/janeaustenr/data/Rdata.rdb";
    my $bytes  = read_file($path);
    my @documents;
    while (length $bytes) {
        substr $bytes, 0, 4, '';
        my ($inflater) = inflateInit();
        my ($value, $status) = $inflater->inflate($bytes);
        die "$path: a damaged zlib stream\n" if $status != Z_STREAM_END;

        my @lines = split /\n/, clean(join("\n", r_strings($value, $path)), $path);
        my $title = join ' ', map { /^and$/i ? 'and' : ucfirst lc } split ' ', $lines[0];
        my $text  = join "\n\n", map { novel_paragraph($_) } paragraphs(@lines);
        $text =~ s/\n\nA NOTE ON THE TEXT\n.*//s;    # of a modern editor
        push @documents,
          { title => $title, text => "$text\n", held_out => $title eq $held_out_novel };
    }
    return @documents;
}

# R's XDR serialisation of a character vector, version 2 or 3.
sub r_strings {
    my ($value, $path) = @_;
    my ($magic, $version) = unpack 'a2 N', $value;
    my $at = 14;
    $at += 4 + unpack 'N', substr $value, $at, 4 if $version == 3;    # name of the encoding
    my ($type, $count) = unpack 'N2', substr $value, $at, 8;
    die "$path: holds something else than a character vector\n"
      if $magic ne "X\n" || ($type & 0xff) != 16;
    $at += 8;

    my @strings;
    for (1 .. $count) {
        my ($flags, $length) = unpack 'N2', substr $value, $at, 8;
        push @strings, substr $value, $at + 8, $length;
        $at += 8 + $length;
    }
    return @strings;
}

sub novel_paragraph {
    my @lines = @_ == 1 ? @{ $_[0] } : @_;

    # Remarks of the edition, not of the author.
    return () if $lines[0] =~ /^\s*\[(?:End volume|At this point in the first)/;

    # Verse, signatures and title pages are set in short indented lines, each with a capital.
    my $is_set = !grep { !/^\s+["'(\[]*[[:upper:]]/ } @lines;
    my $text   = $is_set ? join("\n", map { squeeze($_) } @lines) : join_wrapped(@lines);
    $text =~ s/_([^_]+)_/$1/g;
    return $text;
}

sub read_bible {
    my ($root) = @_;
    my $folder = "$root/usr/share/sword/modules/texts/ztext/engWEB2015eb";
    return map { bible_book($_) } map { books_of("$folder/$_") } qw(ot nt);
}

sub bible_book {
    my ($book) = @_;
    my ($title) = $book->{osis} =~ /<milestone n="([^"]+)" type="x-usfm-toc2"/;
    my $osis = $book->{osis};
    $osis =~ s{<div sID="[^"]*" type="introduction"/>.*?<div eID="[^"]*" type="introduction"/>}{}gs;
    $osis =~ s{<title canonical="true"[^>]*>(.*?)</title>}{<p/>$1<p/>}gs;
    $osis =~ s{<title\b.*?</title>}{}gs;
    $osis =~ s{</q>(?=[<\w])}{ }g;
    $osis =~ s{<chapter n="(\d+)"[^>]*/>}{<p/>Chapter $1<p/>}g;
    return book_document($book, $title, $osis);
}

sub read_commentary {
    my ($root) = @_;
    my $folder = "$root/usr/share/sword/modules/comments/zcom/mhcc";
    return map { commentary_book($_) } map { books_of("$folder/$_") } qw(ot nt);
}

sub commentary_book {
    my ($book) = @_;
    my ($title) = $book->{osis} =~ /<milestone n="([^"]+)" type="x-usfm-toc1"/;
    my $osis = $book->{osis};
    $osis =~ s{<title type="x-s2">(.*?)</title>}{<p/>$1<p/>}gs;    # Chapter N
    $osis =~ s{<title\b.*?</title>}{}gs;
    $osis =~ s{</table>.*?<table>}{index($&, '<hi') < 0 ? '' : $&}gse;    # one outline per chapter
    $osis =~ s/\s*#\(/ (/g;                                         # a mark of the conversion
    $osis =~ s{<row>}{<l sID/>}g;
    $osis =~ s{</cell>}{ }g;
    $osis =~ s{<(?:/?table|hi)\b[^>]*>|</hi>}{<p/>}g;
    return book_document($book, $title, $osis);
}

sub book_document {
    my ($book, $title, $osis) = @_;
    $osis =~ s{<note\b.*?</note>}{ }gs;    # often the only thing between two words
    $osis =~ s/\s+/ /g;
    $osis =~ s{<div [se]ID="[^"]*" type="x-p"/>|</?speaker>|<lb\b[^>]*>|<lg\b[^>]*>|<p/>}{\n\n}g;
    $osis =~ s{<l sID[^>]*>|<l level="\d+" sID[^>]*>}{\n}g;
    $osis =~ s/<[^>]*>//g;
    $osis =~ s/ +(?=[,.;:!?\x{201d}])//g;
    my $text = join "\n\n", $title, grep { length }
      map { join "\n", grep { length } map { squeeze($_) } split /\n/ }
      split /\n{2,}/, decode_entities($osis);
    return { title => $title, text => "$text\n", held_out => $held_out_books{ $book->{id} } };
}

# The books of one testament: { id, osis }. What stands before, between and after the books, such
# as a preface or a glossary, belongs to none.
sub books_of {
    my ($stem) = @_;
    my $osis = testament($stem);
    $osis =~ s{</w>(?=<w\b)}{ }g;
    $osis =~ s{</?w\b[^>]*>}{}g;    # nine tenths of the text: lemmas, word by word
    $osis = clean($osis, $stem);
    my @books;
    while ($osis =~ m{<div canonical="true" osisID="(\w+)" sID="(\w+)" type="book"/>}g) {
        my ($id, $mark, $start) = ($1, $2, pos $osis);
        my ($end) = $osis =~ m{<div canonical="true" eID="$mark"}g ? $-[0] : length $osis;
        push @books, { id => $id, osis => substr($osis, $start, $end - $start) };
        pos($osis) = $start;
    }
    return @books;
}

# The mark-up of one testament of a SWORD module: NAME.bzs lists the zlib blocks of NAME.bzz as
# (offset, size, unpacked size), NAME.bzv the place of each verse as (block, offset, size).
# A verse that was extended while the module was built was stored again; its first version stays
# in the file, pointed to by no verse. Sizes in .bzv are taken modulo 65536, so a stretch without
# a pointer is left out only if its text stands in a verse too.
sub testament {
    my ($stem) = @_;
    my $packed = read_file("$stem.bzz");
    my @blocks;
    for my $record (unpack '(a12)*', read_file("$stem.bzs")) {
        my ($offset, $size, $unpacked_size) = unpack 'V3', $record;
        my $block = $size ? uncompress(substr $packed, $offset, $size) : '';
        die "$stem.bzz: a damaged block\n" if !defined $block || length $block != $unpacked_size;
        push @blocks, $block;
    }

    my @sizes_at;    # per block: offset of a verse => its size
    for my $record (unpack '(a10)*', read_file("$stem.bzv")) {
        my ($block, $offset, $size) = unpack 'V2v', $record;
        next if !$size;
        die "$stem.bzv: a verse outside its block\n"
          if $block >= @blocks || $offset + $size > length $blocks[$block];
        $sizes_at[$block]{$offset} = $size;
    }

    my (@stretches, $verses);    # in the order of the file
    for my $block (0 .. $#blocks) {
        my $at = 0;
        for my $offset (sort { $a <=> $b } keys %{ $sizes_at[$block] || {} }) {
            push @stretches, [ 0, substr $blocks[$block], $at, $offset - $at ] if $offset > $at;
            $at = $offset + $sizes_at[$block]{$offset};
            push @stretches, [ 1, substr $blocks[$block], $offset, $at - $offset ];
        }
        push @stretches, [ 0, substr $blocks[$block], $at ];
    }
    $verses = join '', map { $_->[1] } grep { $_->[0] } @stretches;
    return join '', map { $_->[1] }
      grep { $_->[0] || index($verses, $_->[1]) < 0 } @stretches;
}

# Running text of a page: lines long enough to be sentences, each kept where it appears first.
sub read_html {
    my ($root) = @_;
    my (@documents, %seen, $page);
    for my $path (files_under("$root/usr/share/doc/sqlite3", qr/\.html$/)) {
        my $html = clean(read_file("$root/usr/share/doc/sqlite3/$path"), $path);
        $html =~ s/<!--.*?-->//gs;
        $html =~ s{<(script|style|svg|pre)\b.*?</\1>}{<p>}gis;
        my ($title) = $html =~ m{<title>(.*?)</title>}is;
        $html =~ s{<head>.*?</head>}{}is;

        $html =~ s/\s+/ /g;
        $html =~ s{</?(?:p|div|li|[uod]l|d[td]|t(?:able|body|head|[rdh])|h\d|blockquote|br|hr|center
                   |form|select|option|body|html)\b[^>]*>}{\n}gix;
        $html =~ s/<[^>]*>//g;
        my @lines = grep { is_running_text($_) && !$seen{$_}++ }
          map { squeeze($_) } split /\n/, decode_entities($html);
        push @documents,
          {
            title    => squeeze(decode_entities($title // $path)),
            text     => join("\n\n", @lines) . "\n",
            held_out => ++$page % $held_out_interval == 0,
          };
    }
    return @documents;
}

# Lists of links and of keywords are long, too, but they are no sentences.
sub is_running_text {
    my ($line) = @_;
    return length $line >= $min_line
      && $line =~ /[.!?:;]["')\]]*(?:\s|$)/
      && $line !~ /\.html\b.*\.html\b/;
}

sub read_markdown {
    my ($root) = @_;
    my $folder = "$root/usr/share/doc/anarchism/markdown";
    my (@documents, $page);
    for my $path (files_under($folder, qr/\.md(?:\.gz)?$/)) {
        next if $path =~ /^(?:a|ar)?links\b|^(?:biblio|book|contact|index|new|pdf|translations)\./;
        my $bytes = read_file("$folder/$path");
        $bytes = memGunzip($bytes) // die "$path: a damaged gzip file\n" if $path =~ /\.gz$/;
        my $text = markdown_text(clean($bytes, $path));
        my ($title) = $text =~ /^(.*)/;
        push @documents,
          {
            title    => length $title < 100 ? $title : $path =~ s/\..*//r,
            text     => $text,
            held_out => ++$page % $held_out_interval == 0,
          };
    }
    return @documents;
}

sub markdown_text {
    my ($markdown) = @_;
    $markdown =~ s/!?\[((?:[^\[\]]++|\[[^\[\]]*\])*+)\]\([^()]*\)/$1/g;
    $markdown =~ s/^[> ]+//mg;
    $markdown =~ s/^(#+ .*|[*\-_ ]{5,})$/\n$1\n/mg;
    $markdown =~ s/^[ \t]*(?=(?:[*+-]|\d+\.) )/\n/mg;    # list items are paragraphs
    my @paragraphs;
    for my $lines (paragraphs(split /\n/, $markdown)) {
        my $text = join_wrapped(@$lines);
        $text =~ s/^#+ //;
        $text =~ s/^[*+-] //;
        $text =~ s/\\([\\`*_{}\[\]()#+\-.!])/$1/g;
        $text =~ s/\*\*|\*|(?<!\w)_+|_+(?!\w)//g;
        $text = squeeze($text);
        $text =~ s/(?<!\.) (?=[,.;:!?)\]](?:\s|$))//g;
        $text =~ s/(?<=[\[(]) //g;
        push @paragraphs, $text if $text =~ /\w/;
    }
    return join("\n\n", @paragraphs) . "\n";
}

# Modules as they are, without tests and without files that are tables of data.
sub read_python {
    my ($root) = @_;
    my (@documents, %seen);
    for my $base ('usr/lib/python3.11', 'usr/lib/python3/dist-packages') {
        next if !-d "$root/$base";
        for my $path (files_under("$root/$base", qr/\.py$/)) {
            next if $path =~ m{(?:^|/)(?:tests?|encodings|pydoc_data)/|^_sysconfigdata};
            my $text = clean(read_file("$root/$base/$path"), $path);
            next if $seen{$text}++;
            push @documents,
              { title => $path, text => $text, held_out => scalar($path =~ $held_out_packages) };
        }
    }
    return @documents;
}

# ---------------------------------------------------------------- text

# Bytes to characters: valid UTF-8, line feeds only, no other control character but the tab.
sub clean {
    my ($bytes, $name) = @_;
    my $text = eval { decode('UTF-8', $bytes, Encode::FB_CROAK) };
    if (!defined $text) {
        warn "extract_corpora.pl: $name: left out, not valid UTF-8\n";
        return '';
    }
    $text =~ s/^\x{feff}//;
    $text =~ s/\r\n?/\n/g;
    $text =~ s/[\x00-\x08\x0b-\x1f\x7f-\x9f]//g;
    return $text;
}

sub squeeze {
    my ($text) = @_;
    $text =~ s/\x{ad}//g;    # soft hyphens
    $text =~ s/[\s\x{a0}]+/ /g;
    $text =~ s/^ | $//g;
    return $text;
}

# Runs of lines between blank ones, as array references.
sub paragraphs {
    my @paragraphs = ([]);
    for my $line (@_) {
        if    ($line =~ /\S/)          { push @{ $paragraphs[-1] }, $line }
        elsif (@{ $paragraphs[-1] }) { push @paragraphs, [] }
    }
    return grep { @$_ } @paragraphs;
}

# Lines were broken at blanks and behind hyphens and dashes.
sub join_wrapped {
    my $text = join "\n", map { squeeze($_) } @_;
    $text =~ s/(?<=\S-)\n//g;
    return squeeze($text);
}

sub decode_entities {
    my ($text) = @_;
    my %characters = (
        amp    => '&',         lt     => '<',         gt     => '>',         quot   => '"',
        apos   => q('),        nbsp   => ' ',         ensp   => ' ',         lpar   => '(',
        rpar   => ')',         lsqb   => '[',         rsqb   => ']',         sup1   => "\x{b9}",
        sup2   => "\x{b2}",    sup3   => "\x{b3}",    plusmn => "\x{b1}",    times  => "\x{d7}",
        aelig  => "\x{e6}",    AElig  => "\x{c6}",    pi     => "\x{3c0}",   ndash  => "\x{2013}",
        mdash  => "\x{2014}",  lsquo  => "\x{2018}",  rsquo  => "\x{2019}",  ldquo  => "\x{201c}",
        rdquo  => "\x{201d}",  hellip => "\x{2026}",  larr   => "\x{2190}",  uarr   => "\x{2191}",
        rarr   => "\x{2192}",  ne     => "\x{2260}",  le     => "\x{2264}",  ge     => "\x{2265}",
    );
    $text =~ s{&(?:\#(\d+)|\#[xX]([[:xdigit:]]+)|(\w+));}
              {defined $1 ? chr $1 : defined $2 ? chr hex $2 : $characters{$3} // $&}gex;
    return $text;
}

sub json_line {
    my ($source, $document) = @_;
    my %value = (source => $source, title => $document->{title}, text => $document->{text});
    return encode('UTF-8',
        '{' . join(', ', map { json_string($_) . ': ' . json_string($value{$_}) }
              qw(source title text)) . "}\n");
}

sub json_string {
    my ($text) = @_;
    my %escapes = ("\n" => '\n', "\t" => '\t', '"' => '\"', '\\' => '\\\\');
    $text =~ s/(["\\\x00-\x1f])/$escapes{$1} \/\/ sprintf '\u%04x', ord $1/ge;
    return qq("$text");
}

# ---------------------------------------------------------------- files

sub read_file {
    my ($path) = @_;
    open my $file, '<:raw', $path or die "$path: $!\n";
    local $/;
    return scalar <$file>;
}

# Paths relative to the folder, in byte order.
sub files_under {
    my ($folder, $pattern) = @_;
    my @paths;
    find({ no_chdir => 1, wanted => sub {
        push @paths, substr $_, 1 + length $folder if /$pattern/ && -f && !-l;
    } }, $folder);
    return sort @paths;
}
