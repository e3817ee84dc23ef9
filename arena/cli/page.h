/*
 * The web page of `berth export`: one file that needs nothing else, made of arena/cli/page/ when
 * the tool is built (cmake/page.cmake).
 */
#ifndef BERTH_CLI_PAGE_H
#define BERTH_CLI_PAGE_H

/* A text, ended by a zero byte. "@NONCE@" stands where the number goes that is used once. */
extern const unsigned char berth__page[];

#endif
