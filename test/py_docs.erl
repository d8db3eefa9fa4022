%% The documents as data, for the suites that compare them with the code.
-module(py_docs).

-export([root/0, read/1, pages/0, blocks/1, links/1, resolves/2, paths/1, mentions/2]).

%% Returns the directory of the sources.
-spec root() -> file:filename().
root() ->
    %% test/../ in the source tree: the module is compiled from there.
    Source = proplists:get_value(source, ?MODULE:module_info(compile)),
    root(filename:dirname(Source)).

root(Dir) ->
    case filelib:is_regular(filename:join(Dir, "README.md")) of
        true -> Dir;
        false when Dir =/= "/" -> root(filename:dirname(Dir))
    end.

-spec read(file:filename()) -> binary().
read(Name) ->
    {ok, Text} = file:read_file(filename:join(root(), Name)),
    Text.

%% Returns the paths of all documents, from the root of the sources.
-spec pages() -> [file:filename()].
pages() ->
    Patterns = ["*.md", "docs/*.md", "docs/*/*.md", "bench/*.md", "examples/*/*.md"],
    Pages = lists:append([filelib:wildcard(Pattern, root()) || Pattern <- Patterns]),
    %% The directories of the API reference and of Mix's dependencies hold no documents of ours.
    [Page || Page <- Pages, not lists:prefix("docs/edoc/", Page),
             not lists:prefix("examples/elixir/deps/", Page)].

%% Returns the fenced blocks of a page: language, line of the first line, text.
-spec blocks(file:filename()) -> [{Language :: string(), Line :: pos_integer(), Text :: binary()}].
blocks(Page) ->
    Text = read(Page),
    case re:run(Text, "^```([^\n`]*)\n(.*?)^```$", [global, multiline, dotall]) of
        {match, Matches} ->
            [{binary_to_list(binary:part(Text, Language)), line(Text, Start), binary:part(Text, Body)}
             || [_, Language, {Start, _} = Body] <- Matches];
        nomatch ->
            []
    end.

line(Text, Position) ->
    1 + length(binary:matches(binary:part(Text, 0, Position), <<"\n">>)).

%% Returns the targets of the links of a page that lead to no other host.
-spec links(file:filename()) -> [string()].
links(Page) ->
    case re:run(prose(Page), "\\]\\(([^)\\s]+)\\)", [global, {capture, [1], list}]) of
        {match, Targets} ->
            [Target || [Target] <- Targets, nomatch =:= re:run(Target, "^(https?|mailto):")];
        nomatch ->
            []
    end.

%% Returns the paths from the root of the sources that a page names in backquotes.
-spec paths(file:filename()) -> [string()].
paths(Page) ->
    Pattern = "`((?:src|native|test|docs|bench|c_src|scripts|examples)/[\\w./]+)[` ]",
    case re:run(prose(Page), Pattern, [global, {capture, all_but_first, list}]) of
        {match, Paths} -> [Path || [Path] <- Paths, not lists:member(Path, made())];
        nomatch -> []
    end.

%% Returns the paths that commands make.
made() ->
    ["docs/edoc", "bench/results"].

%% Returns whether a link on a page leads to something.
-spec resolves(file:filename(), Link :: string()) -> boolean().
resolves(Page, Link) ->
    case string:split(Link, "#") of
        ["", Anchor] -> lists:member(Anchor, anchors(Page));
        [Path] -> filelib:is_file(filename:join([root(), filename:dirname(Page), Path]));
        [Path, Anchor] ->
            Target = filename:join(filename:dirname(Page), Path),
            filelib:is_regular(filename:join(root(), Target)) andalso lists:member(Anchor, anchors(Target))
    end.

%% Returns the anchors of the headings of a page, as the usual hosts of Git make them.
anchors(Page) ->
    case re:run(prose(Page), "^#+ +(.*)$", [global, multiline, {capture, [1], binary}]) of
        {match, Headings} -> [anchor(Heading) || [Heading] <- Headings];
        nomatch -> []
    end.

anchor(Heading) ->
    Kept = re:replace(string:lowercase(Heading), "[^\\p{L}\\p{N}_ -]", "", [global, unicode, ucp]),
    re:replace(Kept, " ", "-", [global, unicode, {return, list}]).

prose(Page) ->
    re:replace(read(Page), "^```.*?^```$", "", [global, multiline, dotall, {return, binary}]).

-spec mentions(binary(), iodata()) -> boolean().
mentions(Text, Phrase) ->
    binary:match(Text, unicode:characters_to_binary(Phrase)) =/= nomatch.
