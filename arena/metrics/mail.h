/*
 * Commands that `berth ctl` left in the mailbox of the stats page.
 */
#ifndef BERTH_METRICS_MAIL_H
#define BERTH_METRICS_MAIL_H

#include "metrics/page_format.h"

/* Carries out what was asked since the last look, if anything. Any thread, no lock held. */
void berth__mail_look(struct berth__stats_mail *mail);

#endif
