"""pun_app/adapters/sge/site.py, with output in the form of Son of Grid Engine 8.1.9."""

from __future__ import annotations

from pun_app.adapters.sge.site import cluster_info, parse_queues


def test_queues_and_hosts() -> None:
    """A queue is up if at least one of its hosts can start jobs."""
    instances = (
        "<job_info><queue_info>"
        "<Queue-List><name>all.q@a</name><slots_used>2</slots_used><slots_total>4</slots_total></Queue-List>"
        "<Queue-List><name>all.q@b</name><slots_used>0</slots_used><state>d</state></Queue-List>"
        "<Queue-List><name>off.q@b</name><slots_used>0</slots_used><state>d</state></Queue-List></queue_info></job_info>"
    )
    configured = "qname all.q\nhostlist @allhosts \\\n         c\nh_rt INFINITY\n\nqname off.q\nh_rt 0:1:0\n"
    all_q, off_q = parse_queues(instances, configured)
    assert (all_q.state, all_q.active_nodes, all_q.idle_nodes, all_q.total_nodes, all_q.time_limit) == (
        "up",
        1,
        0,
        2,
        None,
    )
    assert (off_q.state, off_q.time_limit) == ("down", 60)
    hosts = (
        "<qhost><host name='global'><hostvalue name='num_proc'>-</hostvalue></host>"
        "<host name='a'><hostvalue name='num_proc'>4</hostvalue></host><host name='b'><hostvalue name='num_proc'>8</hostvalue></host></qhost>"
    )
    info = cluster_info(hosts, instances)
    assert (info.active_nodes, info.total_nodes, info.active_processors, info.total_processors) == (1, 2, 2, 12)
