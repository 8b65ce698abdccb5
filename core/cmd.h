/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The commands of `tidegate`: one function each in core/cmd_NAME.c, listed in core/main.c. argv[0]
 * is the command's name. They return the exit code, or TG_MISUSED: wrong arguments, and they have
 * said which; main prints the usage.
 */
#ifndef TG_CMD_H
#define TG_CMD_H

#define TG_MISUSED (-1)

enum tg_exit {
	TG_EXIT_OK = 0,
	TG_EXIT_NO = 1,			/* the answer is no, or a faulty script */
	TG_EXIT_USAGE = 2,
	TG_EXIT_ENVIRONMENT = 3,	/* privilege, kernel, device, no daemon */
	TG_EXIT_CHANGES = 4,		/* check: the plan has changes */
};

int tg_cmd_capture(int argc, char **argv);
int tg_cmd_decap(int argc, char **argv);
int tg_cmd_doctor(int argc, char **argv);
int tg_cmd_check(int argc, char **argv);
int tg_cmd_eval(int argc, char **argv);
int tg_cmd_lua(int argc, char **argv);
int tg_cmd_reload(int argc, char **argv);
int tg_cmd_run(int argc, char **argv);
int tg_cmd_repl(int argc, char **argv);
int tg_cmd_status(int argc, char **argv);
int tg_cmd_trace(int argc, char **argv);
int tg_cmd_test(int argc, char **argv);
int tg_cmd_unload(int argc, char **argv);
int tg_cmd_version(int argc, char **argv);

#endif
