std = "lua54"
max_line_length = 120
ignore = { "211/turn", "211/done" } -- <close> variables
read_globals = { "tg" }
exclude_files = { "build*" }
files["lua/tidegate/program.lua"] = { globals = { "arg", "os.exit" } }
files["lua/tidegate/test.lua"] = { globals = { "arg", "os.exit" } }
files["tests"] = { std = "+busted" }
files["tests/**/*_spec.lua"] = { std = "+busted" }
files["lua/meta"] = { ignore = { "1..", "2..", "6.." } }
