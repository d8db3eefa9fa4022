#!/usr/bin/env escript
%% Writes the corpus: `NAME.etf' for each input, and `outcomes.txt' with a line "NAME OUTCOME" for
%% each. The outcome is what Python's repr says of the object, or "error: " and the error; both are
%% written by hand below, from what the documentation of the types says. Run in this directory with
%% the OTP that the well-formed terms shall come from.
-mode(compile).

main([]) ->
    Inputs = terms() ++ encoded() ++ hostile(),
    Names = [Name || {Name, _, _} <- Inputs],
    true = length(Names) =:= length(lists:usort(Names)),
    [ok = file:write_file(Name ++ ".etf", Bytes) || {Name, Bytes, _} <- Inputs],
    Lines = [unicode:characters_to_binary([Name, " ", Outcome, "\n"])
             || {Name, _, Outcome} <- lists:sort(Inputs)],
    ok = file:write_file("outcomes.txt", Lines).

%% Terms as `term_to_binary' of this OTP writes them.
terms() ->
    [{"small_integer", t(200), "200"},
     {"integer", t(-200), "-200"},
     {"integer_32_bits", t(-2147483648), "-2147483648"},
     {"small_big", t(1 bsl 62), "4611686018427387904"},
     {"smallest_of_64_bits", t(-(1 bsl 63)), "-9223372036854775808"},
     {"below_64_bits", t(-(1 bsl 63) - 1), "-9223372036854775809"},
     {"large_big", t(-(1 bsl 2048)), ["-", integer_to_list(1 bsl 2048)]},
     {"float", t(-1.5), "-1.5"},
     {"float_subnormal", t(5.0e-324), "5e-324"},
     {"atom", t(ok), "'ok'"},
     {"atom_latin1", t(binary_to_atom(<<"blå"/utf8>>)), "'blå'"},
     {"atom_utf8", t(binary_to_atom(<<"日本"/utf8>>)), "'日本'"},
     {"atom_utf8_long", t(binary_to_atom(binary:copy(<<"日"/utf8>>, 255))),
      ["'", lists:duplicate(255, 16#65e5), "'"]},
     {"atom_empty", t(''), "''"},
     {"constants", t([true, false, none, nil, undefined]), "[True, False, None, None, None]"},
     {"nil", t([]), "[]"},
     {"string", t("abc"), "[97, 98, 99]"},
     {"string_in_list", t([[1, 2], [3], 4]), "[[1, 2], [3], 4]"},
     {"list", t([1, a, 2.0]), "[1, 'a', 2.0]"},
     {"improper", t([1, 2 | c]), "error: cannot convert (ImproperList): [1,2|c]"},
     {"improper_nested", t({[[a | b]]}), "error: cannot convert (ImproperList): [a|b]"},
     {"tuple_empty", t({}), "()"},
     {"tuple", t({1, {2}, []}), "(1, (2,), [])"},
     {"tuple_large", t(erlang:make_tuple(300, 7)),
      ["(", lists:join(", ", lists:duplicate(300, "7")), ")"]},
     {"map_empty", t(#{}), "{}"},
     {"map", t(#{a => 1, <<"b">> => #{2 => [x]}}), "{'a': 1, 'b': {2: ['x']}}"},
     {"map_tuple_key", t(#{{1, a} => 2}), "{(1, 'a'): 2}"},
     {"map_collision", t(#{1 => x, 1.0 => y}),
      "error: cannot convert (KeyCollision): #{1 => x,1.0 => y}"},
     {"map_unhashable", t(#{[1] => x}), "error: cannot convert (UnhashableKey): [1]"},
     {"binary_text", t(<<"grün"/utf8>>), "'grün'"},
     {"binary_bytes", t(<<255, 0>>), "b'\\xff\\x00'"},
     {"binary_empty", t(<<>>), "''"},
     {"tagged_bytes", t({bytes, <<"abc">>}), "b'abc'"},
     {"tagged_not_binary", t({bytes, 1}), "('bytes', 1)"},
     {"tagged_three", t({bytes, <<"a">>, 1}), "('bytes', 'a', 1)"},
     {"bitstring", t(<<1, 5:3>>), "<erlang.Term <<11 bits>>>"},
     {"export", t(fun lists:map/2), "<erlang.Term fun lists:map/2>"}].

t(Term) -> term_to_binary(Term).

%% Forms that other versions and nodes write: each is read back by this OTP where it can.
encoded() ->
    Node = <<119, 3, "a@b">>,
    [{"atom_ext", <<131, 100, 2:16, "ok">>, "'ok'"},
     {"atom_ext_latin1", <<131, 100, 1:16, 229>>, "'å'"},
     {"small_atom_ext", <<131, 115, 2, "ok">>, "'ok'"},
     {"atom_utf8_ext", <<131, 118, 2:16, "ok">>, "'ok'"},
     {"small_atom_utf8_ext", <<131, 119, 4, "true">>, "True"},
     {"pid_ext", <<131, 103, Node/binary, 38:32, 1:32, 2>>, "<erlang.Term #Pid<a@b.38.1>>"},
     {"new_pid_ext", <<131, 88, Node/binary, 38:32, 1:32, 9:32>>, "<erlang.Term #Pid<a@b.38.1>>"},
     {"port_ext", <<131, 102, Node/binary, 7:32, 2>>, "<erlang.Term #Port<a@b.7>>"},
     {"new_port_ext", <<131, 89, Node/binary, 7:32, 9:32>>, "<erlang.Term #Port<a@b.7>>"},
     {"v4_port_ext", <<131, 120, Node/binary, (1 bsl 40):64, 9:32>>,
      "<erlang.Term #Port<a@b.1099511627776>>"},
     {"reference_ext", <<131, 101, Node/binary, 7:32, 2>>, "<erlang.Term #Ref<a@b.7>>"},
     {"new_reference_ext", <<131, 114, 2:16, Node/binary, 2, 7:32, 8:32>>,
      "<erlang.Term #Ref<a@b.8.7>>"},
     {"newer_reference_ext", <<131, 90, 3:16, Node/binary, 9:32, 7:32, 8:32, 9:32>>,
      "<erlang.Term #Ref<a@b.9.8.7>>"},
     {"new_fun_ext", new_fun([<<97, 1>>, <<108, 1:32, 97, 2, 106>>]), "<erlang.Term #Fun<m.3>>"},
     {"in_containers", <<131, 104, 2, 88, Node/binary, 1:32, 2:32, 3:32, 97, 4>>,
      "(<erlang.Term #Pid<a@b.1.2>>, 4)"},
     {"bit_binary_whole", <<131, 77, 2:32, 8, "ab">>, "'ab'"},
     {"large_tuple_small", <<131, 105, 1:32, 97, 1>>, "(1,)"},
     {"list_of_none", <<131, 108, 0:32, 106>>, "[]"},
     {"large_big_small", <<131, 111, 1:32, 0, 5>>, "5"},
     {"big_zero", <<131, 110, 0, 0>>, "0"},
     {"big_padded", <<131, 110, 9, 1, 5, 0:64>>, "-5"}].

new_fun(Free) ->
    Node = <<119, 3, "a@b">>,
    Pid = <<88, Node/binary, 1:32, 2:32, 3:32>>,
    Rest = iolist_to_binary([<<1, 0:128, 3:32, (length(Free)):32, 119, 1, "m", 97, 3, 97, 4>>,
                             Pid, Free]),
    <<131, 112, (byte_size(Rest) + 4):32, Rest/binary>>.

hostile() ->
    Cut = "the input is cut",
    Short = "the input is shorter than a length in it",
    Tag = "an unknown tag",
    [{"empty", <<>>, at(0, "the input is empty")},
     {"version_only", <<131>>, at(1, Cut)},
     {"version_other", <<130, 97, 1>>, at(0, "not of this version of the format")},
     {"compressed", term_to_binary(lists:duplicate(1000, a), [compressed]),
      at(0, "compressed terms are not read")},
     {"compressed_inside", <<131, 104, 1, 80, 0:32>>, at(3, "compressed terms are not read")},
     {"trailing", <<131, 97, 1, 97>>, at(3, "bytes after the term")},
     {"tag_0", <<131, 0>>, at(1, Tag)},
     {"tag_version", <<131, 131, 97, 1>>, at(1, Tag)},
     {"tag_cached_atom", <<131, 82, 0>>, at(1, Tag)},
     {"tag_local", <<131, 121, 0:64, 97, 1>>, at(1, Tag)},
     {"tag_old_float", <<131, 99, 0:248>>, at(1, Tag)},
     {"tag_old_fun", <<131, 117, 0:32>>, at(1, Tag)},
     {"tag_inside", <<131, 108, 2:32, 97, 1, 255, 106>>, at(8, Tag)},
     {"integer_cut", <<131, 98, 0, 0>>, at(1, Cut)},
     {"big_cut", <<131, 110, 9, 0, 1>>, at(4, Short)},
     {"large_big_length", <<131, 111, 16#ffffffff:32, 0, 1>>, at(7, Short)},
     {"float_cut", <<131, 70, 0, 0>>, at(1, "not a float")},
     {"float_nan", <<131, 70, 16#7ff8000000000000:64>>,
      at(1, "not a float")},
     {"atom_cut", <<131, 119, 5, "ab">>, at(3, Short)},
     {"atom_not_utf8", <<131, 119, 1, 255>>, at(4, "not the text of an atom")},
     {"atom_too_long", <<131, 118, 256:16, 0:2048>>, at(260, "not the text of an atom")},
     {"atom_ext_too_long", <<131, 100, 256:16, 0:2048>>, at(260, "not the text of an atom")},
     {"binary_cut", <<131, 109, 4:32, "abc">>, at(6, Short)},
     {"binary_length", <<131, 109, 16#ffffffff:32>>, at(6, Short)},
     {"bits_none", <<131, 77, 1:32, 0, 1>>, at(7, "not a bit string")},
     {"bits_many", <<131, 77, 1:32, 9, 1>>, at(7, "not a bit string")},
     {"string_length", <<131, 107, 16#ffff:16, 1>>, at(4, Short)},
     {"list_length", <<131, 108, 16#ffffffff:32, 97, 1, 106>>, at(6, Short)},
     {"list_no_tail", <<131, 108, 1:32, 97, 1>>, at(8, Cut)},
     {"list_cut_item", <<131, 108, 1:32, 98, 1>>, at(6, Cut)},
     {"tuple_length", <<131, 105, 16#ffffffff:32, 97, 1>>, at(6, Short)},
     {"small_tuple_length", <<131, 104, 255, 97, 1>>, at(3, Short)},
     {"map_length", <<131, 116, 16#ffffffff:32, 97, 1, 97, 2>>, at(6, Short)},
     {"map_cut", <<131, 116, 2:32, 97, 1, 97, 2>>, at(10, Cut)},
     {"map_twice", <<131, 116, 2:32, 97, 1, 97, 2, 97, 1, 97, 3>>,
      "error: cannot convert (KeyCollision): #{1 => 2,1 => 3}"},
     {"pid_cut", <<131, 88, 119, 1, "a", 0:32>>, at(5, Short)},
     {"pid_no_node", <<131, 88, 97, 1, 0:96>>, at(3, "not an atom")},
     {"reference_length", <<131, 90, 16#ffff:16, 119, 1, "a", 0:32>>, at(7, Short)},
     {"fun_free", <<131, 112, 0:32, 0:136, 0:32, 16#ffffffff:32>>, at(31, Short)},
     {"export_cut", <<131, 113, 119, 1, "a">>, at(5, Short)},
     %% Each claims what is left: read as told, they would fill the memory.
     {"lists_in_lists", iolist_to_binary([131, [<<108, (10000 - 5 * N):32>> || N <- lists:seq(1, 900)],
                                          lists:duplicate(5600, 106)]), at(11, Short)},
     {"deep_tuples", iolist_to_binary([131, lists:duplicate(100000, <<104, 1>>), 106]),
      "error: cannot convert (TooDeep): term"},
     {"deep_maps", iolist_to_binary([131, lists:duplicate(20000, <<116, 1:32, 97, 1>>), 106]),
      "error: cannot convert (TooDeep): term"},
     {"deep_fun", deep_fun(1000), "<erlang.Term #Fun<m.3>>"}].

%% Funs in funs, which are not read: a loop finds the end of the outermost.
deep_fun(Depth) ->
    Wrap = fun(_, <<131, Inner/binary>>) -> new_fun([Inner]) end,
    lists:foldl(Wrap, <<131, 106>>, lists:seq(1, Depth)).

at(At, What) ->
    io_lib:format("error: malformed external term at byte ~b: ~s", [At, What]).
