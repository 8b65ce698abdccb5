std = "lua54"
max_line_length = 120
ignore = { "211/lock", "211/done" } -- <close> variables
read_globals = { "tg" }
exclude_files = { "build*" }
files["tests"] = { std = "+busted" }
files["tests/**/*_spec.lua"] = { std = "+busted" }
files["lua/meta"] = { ignore = { "1..", "2..", "6.." } }
